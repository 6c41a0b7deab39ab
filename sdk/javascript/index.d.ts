import type { ManagerOptions, Socket, SocketOptions } from "socket.io-client";

export interface User {
  id: string;
  name?: string;
  [field: string]: unknown;
}

/** Options of the official client pass through: `transports`, `path`, `auth`, `reconnectionDelay` and so on. */
export interface AICodingAssistantOptions extends Partial<Omit<ManagerOptions & SocketOptions, "autoConnect" | "timeout">> {
  baseURL: string;
  /** A stored login session; `connect()` logs in with it. */
  sessionId?: string;
  /** Who speaks, where there is no session and the gateway admits anonymous connections. */
  userId?: string;
  /** Milliseconds that a call waits for its ack; 20000 by default. */
  timeout?: number;
}

export interface AIMessage {
  message: string;
  projectId?: string;
  context?: Record<string, unknown>;
}

export interface CallOptions {
  /** Milliseconds. */
  timeout?: number;
}

export type ErrorCode =
  | "BAD_PAYLOAD" | "UNKNOWN_EVENT" | "UNAUTHORIZED" | "FORBIDDEN" | "RATE_LIMITED" | "NOT_FOUND" | "CONFLICT"
  | "LIMIT_EXCEEDED" | "TOO_LARGE" | "UNAVAILABLE" | "TIMEOUT" | "INTERNAL" | "NOT_CONNECTED" | "CONNECT_ERROR";

export class AICodingAssistantError extends Error {
  constructor(code: string, message: string, about?: { event?: string; details?: Record<string, unknown>; cause?: unknown });
  readonly code: ErrorCode | (string & {});
  /** The event that was refused; none where the connection itself failed. */
  readonly event?: string;
  /** What a refusal says besides: `retry_after_ms`, `holder`. */
  readonly details: Record<string, unknown>;
}

export class AICodingAssistantSocket {
  constructor(options: AICodingAssistantOptions);
  readonly socket: Socket;
  readonly connected: boolean;
  readonly user: User | null;
  connect(options?: CallOptions): Promise<void>;
  joinProject(projectId: string): Promise<User[]>;
  leaveProject(projectId: string): Promise<void>;
  sendAIMessage<Response = any>(message: AIMessage, options?: CallOptions): Promise<Response>;
  request<Ack = any>(event: string, payload?: object, options?: CallOptions): Promise<Ack>;
  on(event: string, handler: (...data: any[]) => void): this;
  once(event: string, handler: (...data: any[]) => void): this;
  off(event: string, handler?: (...data: any[]) => void): this;
  disconnect(): void;
}
