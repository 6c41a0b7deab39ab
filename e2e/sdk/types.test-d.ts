// Compiled, never run: the documented calls type-check, and each marked line is an error that the types catch.
import { AICodingAssistantError, AICodingAssistantSocket } from "@ai-coding-assistant/sdk";

const socket = new AICodingAssistantSocket({ baseURL: "http://localhost:3001", sessionId: "your-session-id", transports: ["websocket"] });
await socket.connect();
const present: { id: string; name?: string }[] = await socket.joinProject("project-123");
const response = await socket.sendAIMessage<{ text: string }>({ message: "Create a React component", projectId: "project-123" }, { timeout: 1000 });
const text: string = response.text;
socket.on("project:updated", (data) => console.log(data, present, text)).off("project:updated");
const code: string = new AICodingAssistantError("TIMEOUT", "late").code;
console.log(code);

// @ts-expect-error: the address is needed.
new AICodingAssistantSocket({ sessionId: "s" });
// @ts-expect-error: a message is needed.
await socket.sendAIMessage({ projectId: "project-123" });
// @ts-expect-error: a project is named by a string.
await socket.joinProject(123);
