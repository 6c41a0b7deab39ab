// What comes in: `examples/quiz.toml` as it stands, official clients. What goes out: whether the contract that the README
// shows from zero is that file, short, and does what the README says. It never knows the contract otherwise.
import { after, afterEach, before, describe, test } from 'node:test';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import { Client, Gateway, assert, assertErrorEvent, assertOk, assertRefused, run, until, user, within } from './harness.mjs';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const FOLDER = path('examples');
const FILE = readFileSync(path('examples/quiz.toml'), 'utf8');

const QUESTION = { id: 'q1', text: 'Which river is the longest?', choices: ['Nile', 'Amazon'] };

describe('quiz, a contract written from zero', () => {
  let gw;
  before(async () => {
    gw = await Gateway.start({ contracts: ['quiz'], args: ['--contracts', FOLDER] });
  });
  after(() => gw?.stop());
  afterEach(() => gw.empty());

  /** An official client; an unknown event with an ack is answered after everything that was sent before. */
  async function open(token) {
    const socket = io(gw.url, { forceNew: true, reconnection: false, transports: ['websocket'], auth: token ? { token } : {} });
    const client = new Client(socket, (c) => c.call('no such event'));
    gw.clients.add(client);
    await within(new Promise((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject)), 'connecting');
    return client;
  }
  async function hosted() {
    const host = await open(user('hanna', ['host']));
    const { quiz } = assertOk(await host.call('quiz:open'), 'quiz:open');
    assert.match(quiz, /^[0-9a-f-]{36}$/);
    return [host, quiz];
  }
  async function player(quiz, name) {
    const client = await open();
    return [client, assertOk(await client.call('quiz:join', { quiz, player: name }), 'quiz:join')];
  }

  test('the README shows the file, byte for byte, in under 40 lines, and it is good', async () => {
    const readme = readFileSync(path('README.md'), 'utf8');
    const blocks = [...readme.matchAll(/^```toml\n([\s\S]*?)^```$/gm)].map(([, text]) => text);
    const shown = blocks.find((text) => text.includes('name = "quiz"'));
    assert.equal(shown, FILE);
    assert.ok(FILE.trimEnd().split('\n').length < 40, 'under 40 lines');
    const checked = await run(['contract', 'check', FOLDER]);
    assert.deepEqual([checked.code, checked.stdout], [0, 'quiz: good; 4 events in, 0 declared events out\n'], checked.stderr);
  });

  test('a quiz from its opening to its end', async () => {
    const [host, quiz] = await hosted();
    const [ann, first] = await player(quiz, 'ann');
    assert.deepEqual(first.people.map((who) => who.id), ['hanna', 'ann']);
    assert.ok(!('question' in first), 'no question yet');
    assert.deepEqual(await host.next('quiz:joined'), { who: 'ann' });

    assertOk(await host.call('quiz:ask', { quiz, question: QUESTION }), 'quiz:ask');
    assert.deepEqual(await ann.next('quiz:question'), QUESTION);
    const [bob, late] = await player(quiz, 'bob');
    assert.deepEqual(late.question, QUESTION, 'who comes late is told the question in the ack');
    assert.deepEqual(await ann.next('quiz:joined'), { who: 'bob' });

    assertOk(await ann.call('quiz:answer', { quiz, choice: 'Nile' }), 'quiz:answer');
    assert.deepEqual(await host.next('quiz:answered'), { who: 'ann', choice: 'Nile' });
    assertOk(await bob.call('quiz:answer', { quiz, choice: 1 }), 'quiz:answer');
    assert.deepEqual(await host.next('quiz:answered'), { who: 'bob', choice: 1 });
    await ann.quiet('quiz:answered');

    bob.close();
    assert.deepEqual(await ann.next('quiz:left'), { who: 'bob' });
    assert.deepEqual(await host.next('quiz:withdrawn'), { who: 'bob' });
    assert.deepEqual((await gw.ok('GET', `/v1/presence/quiz:${quiz}`)).users.map((who) => who.id), ['hanna', 'ann']);
  });

  test('one answer to each question: the first', async () => {
    const [host, quiz] = await hosted();
    const [ann] = await player(quiz, 'ann');
    await host.call('quiz:ask', { quiz, question: QUESTION });
    await ann.call('quiz:answer', { quiz, choice: 'Nile' });
    await ann.call('quiz:answer', { quiz, choice: 'Amazon' });
    await ann.call('quiz:answer', { quiz, choice: 'Amazon', player: 'another name' });
    assert.equal((await host.next('quiz:answered')).choice, 'Nile');
    await host.quiet('quiz:answered');

    await host.call('quiz:ask', { quiz, question: { ...QUESTION, id: 'q2' } });
    await ann.call('quiz:answer', { quiz, choice: 'Amazon' });
    assert.equal((await host.next('quiz:answered')).choice, 'Amazon');
  });

  test('two quizzes do not hear of each other', async () => {
    const [host, quiz] = await hosted();
    const [other, elsewhere] = await hosted();
    const [ann] = await player(quiz, 'ann');
    await player(elsewhere, 'bob');
    await other.call('quiz:ask', { quiz: elsewhere, question: QUESTION });
    await ann.quiet();
    assert.deepEqual(await host.next('quiz:joined'), { who: 'ann' });
    await host.quiet('quiz:joined', 'quiz:question');
  });

  test('what is refused, and how', async () => {
    const [, quiz] = await hosted();
    const [ann] = await player(quiz, 'ann');
    const stranger = await open();
    const cases = [
      ['a player opens a quiz', ann, 'quiz:open', undefined, 'FORBIDDEN'],
      ['a player asks', ann, 'quiz:ask', { quiz, question: QUESTION }, 'FORBIDDEN'],
      ['a quiz that is not there', stranger, 'quiz:join', { quiz: 'none', player: 'eve' }, 'NOT_FOUND'],
      ['nobody joins', stranger, 'quiz:join', { quiz }, 'BAD_PAYLOAD'],
      ['a stranger answers', stranger, 'quiz:answer', { quiz, choice: 1 }, 'FORBIDDEN'],
      ['no question is open', ann, 'quiz:answer', { quiz, choice: 1 }, 'UNAVAILABLE'],
      ['no choice', ann, 'quiz:answer', { quiz }, 'BAD_PAYLOAD'],
      ['an event that the contract does not have', ann, 'quiz:cheat', {}, 'UNKNOWN_EVENT'],
    ];
    for (const [name, client, event, payload, code] of cases) {
      const error = assertRefused(await client.call(event, ...(payload ? [payload] : [])), event, code);
      assert.ok(error.message.length > 0, name);
    }
    ann.send('quiz:ask', { quiz, question: QUESTION });
    assertErrorEvent(await ann.next('error'), 'quiz:ask', 'FORBIDDEN');
  });

  test('a host that comes with a token keeps its own name', async () => {
    const [host, quiz] = await hosted();
    assertRefused(await host.call('quiz:join', { quiz, player: 'somebody else' }), 'quiz:join', 'FORBIDDEN');
    const stats = await until('the host is in', async () => (await gw.ok('GET', '/v1/stats')).authenticated === 1);
    assert.ok(stats);
  });
});
