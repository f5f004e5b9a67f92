/**
 * Requests while a container ends, and right behind its end, get the running or the ended container's answer.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";

import type { ApiResponse } from "../support/call-api.ts";
import { sampled } from "../support/soak.ts";
import { tarOf } from "../support/tar.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { api } = withDaemon();

/** As often as each verb is tried, but for those that say another number. */
const usualRounds = 16;

/** A verb, and the statuses that a running and an ended container answer it with. */
interface Verb {
  readonly name: string;
  readonly answers: readonly number[];
  readonly rounds?: number;
  ask(container: string): Promise<ApiResponse>;
}

const verbs: readonly Verb[] = [
  {
    name: "the stat of a path",
    answers: [200],
    ask: (id) => api.call("HEAD", `/containers/${id}/archive?path=/etc/passwd`),
  },
  {
    name: "files out",
    answers: [200],
    ask: (id) => api.call("GET", `/containers/${id}/archive?path=/etc`),
  },
  {
    name: "files in",
    answers: [200],
    ask: async (id) => {
      const archive = await tarOf([{ name: `put-${randomUUID()}`, content: "in" }]);
      return await api.call("PUT", `/containers/${id}/archive?path=/tmp`, archive);
    },
  },
  { name: "changes", answers: [200], ask: (id) => api.call("GET", `/containers/${id}/changes`) },
  { name: "the log", answers: [200], ask: (id) => api.call("GET", `/containers/${id}/logs?stdout=1`) },
  { name: "top", answers: [200, 409], ask: (id) => api.call("GET", `/containers/${id}/top`) },
  {
    name: "resize",
    answers: [200, 409],
    ask: (id) => api.call("POST", `/containers/${id}/resize?h=24&w=80`),
  },
  { name: "commit", answers: [201], rounds: 6, ask: (id) => api.call("POST", `/commit?container=${id}`) },
  {
    name: "statistics",
    answers: [200],
    ask: (id) => api.call("GET", `/containers/${id}/stats?stream=0&one-shot=1`),
  },
];

/** Statuses that no container answers with, each with its text. */
function strange({ answers }: Verb, answered: readonly ApiResponse[]): string[] {
  return answered
    .filter(({ status }) => !answers.includes(status))
    .map(({ status, text }) => `${status} ${text.trim()}`);
}

/** Verbs that `npm test` asks for, by each way that one goes: agent, shim, image store, engine. */
const sample = new Set(["files in", "the log", "top", "commit"]);

describe("around a container's end", () => {
  for (const verb of verbs) {
    test(`${verb.name}: asked all the while that it ends`, sampled(sample.has(verb.name)), async () => {
      const odd: string[] = [];
      for (let round = 0; round < (verb.rounds ?? usualRounds); round++) {
        const id = await api.script("mkdir -p /tmp; read line", {
          OpenStdin: true,
          Tty: verb.name === "resize",
        });
        let over = false;
        const asking = (async () => {
          const answered = [];
          while (!over) {
            answered.push(await verb.ask(id));
          }
          return answered;
        })();
        await api.expect(204, "POST", `/containers/${id}/kill`);
        await api.wait(id);
        const behind = await verb.ask(id);
        over = true;
        odd.push(...strange(verb, [...(await asking), behind]));
        await api.remove(id);
      }
      assert.deepEqual([...new Set(odd.map((each) => each.replaceAll(/[0-9a-f]{12,64}/g, "ID")))], []);
    });
  }

  test("every verb, asked all the while that its policy starts it again", async () => {
    const id = await api.script("mkdir -p /tmp; exit 3", {
      HostConfig: { RestartPolicy: { Name: "on-failure", MaximumRetryCount: 4 } },
    });
    let over = false;
    const asking = verbs.map(async (verb) => {
      const odd: string[] = [];
      while (!over) {
        odd.push(...strange(verb, [await verb.ask(id)]).map((each) => `${verb.name}: ${each}`));
      }
      return odd;
    });
    await api.wait(id);
    over = true;
    assert.deepEqual((await Promise.all(asking)).flat(), []);
    await api.remove(id);
  });
});
