import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";

import { AgentLink } from "./agent-link.ts";
import { LiveRun, type StartUnderWay } from "./run.ts";
import { StartPhases } from "./start-phases.ts";

const links: AgentLink[] = [];

function newLink(): AgentLink {
  const link = new AgentLink({ kind: "unix", path: "/nowhere" }, 1n, { containerId: "c" });
  links.push(link);
  return link;
}

function newStart(): StartUnderWay {
  const over = Promise.resolve();
  const ending = new AbortController();
  return {
    over,
    outcome: over,
    caller: undefined,
    ending,
    waitsFor: "",
    phases: new StartPhases(),
  };
}

function running(): LiveRun {
  const run = new LiveRun();
  run.begin(newStart());
  run.meet(newLink());
  run.succeed();
  run.settle();
  return run;
}

describe("a container's run", () => {
  afterEach(() => {
    links.splice(0).forEach((link) => {
      link.close();
    });
  });

  it("has an agent from its start on, and no start any more once that has succeeded", () => {
    const run = new LiveRun();
    const start = newStart();
    run.begin(start);
    assert.equal(run.start, start);
    assert.equal(run.link, undefined);
    const link = newLink();
    run.meet(link);
    run.succeed();
    run.settle();
    assert.equal(run.start, undefined);
    assert.equal(run.link, link);
    run.leave();
    assert.equal(run.link, undefined);
    assert.ok(link.ended.signal.aborted);
  });

  it("is not begun twice, nor while it goes on", () => {
    const run = new LiveRun();
    run.begin(newStart());
    assert.throws(() => run.begin(newStart()), /starting/);
    assert.throws(() => running().begin(newStart()), /running/);
  });

  it("leaves no link behind where its start has failed", () => {
    const run = new LiveRun();
    run.begin(newStart());
    const link = newLink();
    run.meet(link);
    run.settle();
    assert.ok(link.ended.signal.aborted);
    assert.equal(run.link, undefined);
  });

  it("is ended by a user until the next one begins", () => {
    const run = running();
    assert.equal(run.isEndedByUser, false);
    run.endByUser();
    assert.equal(run.isEndedByUser, true);
    run.leave();
    run.begin(newStart());
    assert.equal(run.isEndedByUser, false);
  });

  it("is restarted from the user's word to the start that follows, also between its end and that", () => {
    const run = running();
    run.endForRestart();
    run.endByUser();
    assert.ok(run.isRestarted);
    run.leave();
    assert.ok(run.isRestarted && run.isEndedByUser);
    run.begin(newStart());
    assert.equal(run.isRestarted, false);
  });

  it("goes on as before where a restart has sent no signal, and stays ended by one that it has sent", () => {
    const unsent = running();
    unsent.endForRestart();
    unsent.endRestart();
    assert.equal(unsent.isEndedByUser, false);
    const sent = running();
    sent.endForRestart();
    sent.endByUser();
    sent.endRestart();
    assert.ok(sent.isEndedByUser && !sent.isRestarted);
  });

  it("waits for its policy until a user says otherwise", () => {
    for (const end of ["endWait", "endForRestart"] as const) {
      const run = new LiveRun();
      const wait = new AbortController();
      run.awaitRestart(wait);
      run[end]();
      assert.ok(wait.signal.aborted);
    }
  });

  it("ends inside of a removal, and goes on where that fails", async () => {
    const removed = running();
    await removed.remove(async () => {
      assert.ok(removed.isRemoving && removed.isEndedByUser && removed.link !== undefined);
      removed.leave();
    });
    assert.ok(!removed.isRemoving && removed.link === undefined);
    const kept = running();
    await assert.rejects(
      kept.remove(() => Promise.reject(new Error("not now"))),
      /not now/,
    );
    assert.ok(!kept.isRemoving && !kept.isEndedByUser && kept.link !== undefined);
  });
});
