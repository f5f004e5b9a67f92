import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { isErrorKind, unavailable } from "../../../common/errors.ts";
import { LatestOnly } from "../../concurrency/latest-only.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { TaskPhase, type TaskRecord, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LaunchProgress } from "../../driver/launches.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { LaterStart } from "../../driver/later-start.ts";
import type { AgentFinder, TaskPlace } from "../contract/agent-finder.ts";
import { agentsDialled, directTraffic } from "../../driver/ready-made-roles.ts";
import { TaskAgents } from "../agents/task-agents.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { CallOutcome } from "../contract/cloud-error.ts";
import type { StartStep, TaskAnswer, TaskView } from "../contract/cloud-tasks.ts";
import type { State } from "../../state/state.ts";
import type { Sealer } from "../authority/seal.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { noRoom, refusal, taskView, testCloud } from "../testing/cloud.ts";
import { passing } from "../testing/passing.ts";
import { workloadSpec } from "../testing/workload-spec.ts";
import { launch } from "./launch.ts";
import type { TaskListener } from "./poller.ts";
import { InterruptedStarts } from "./interrupted-starts.ts";
import { mayLaunchAgain } from "./lost-agent.ts";
import { QuotaLines } from "./quota-lines.ts";
import { SinceWhen } from "./since-when.ts";
import { TaskBook, type TaskFields } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import { UnansweredRequests } from "./unanswered-requests.ts";
import { untold } from "../../../../test/support/untold.ts";

const never = (): Promise<never> => new Promise(() => {});
const container = "c".repeat(64);

const settings = { startTimeoutMs: 50, quotaTimeoutMs: 3_600_000 };
/** One that may take as long as the test. */
const unhurried = { settings: { ...settings, startTimeoutMs: 3_600_000 } };
const requests = {
  make: () => Promise.resolve("{}"),
  sizeOf: () => "",
  fitsQuota: async () => true,
  another: () => "{}",
};

/** A start that may take 50 ms. */
function setUp(parts: object, known?: TaskFields) {
  const clock = new ManualClock();
  const tasks = new Map<string, TaskRecord>();
  if (known !== undefined) {
    tasks.set(
      container,
      create(TaskRecordSchema, { ...known, containerId: container } as MessageInitShape<
        typeof TaskRecordSchema
      >),
    );
  }
  const put = (record: TaskRecord): void => void tasks.set(record.containerId, record);
  const commit = (change: (tables: object) => void): Promise<void> => {
    change({ tasks: { put } });
    return Promise.resolve();
  };
  let asked = 0;
  const cloud = testCloud({
    run() {
      asked++;
      return never();
    },
  });
  const context = {
    cloud,
    book: new TaskBook({ tasks, commit } as unknown as State, cloud),
    clock,
    logger: capturedLogger().logger,
    quotaLines: new QuotaLines(),
    unanswered: new UnansweredRequests(),
    searches: new LatestOnly(),
    interrupted: new InterruptedStarts(),
    later: new Map(),
    poller: { look: async () => "missing" },
    requests,
    pool: { started() {}, take: async () => undefined, agentOf() {}, yieldRoom() {}, doom() {} },
    abandoned: new AbortController().signal,
    settings,
    ...parts,
  } as unknown as TaskContext;
  const start = (progress?: Partial<LaunchProgress>, spec?: Partial<WorkloadSpec>) => {
    const { signal } = new AbortController();
    return launch(context, { ...workloadSpec(), ...spec }, signal, { ...untold, ...progress });
  };
  /** Starts it, and lets time go by until that is over; what needs no time is done before. */
  const late = async () => {
    const starting = start();
    starting.catch(() => {});
    await clock.advance(0);
    return await passing(clock, starting);
  };
  return { start, late, clock, asked: () => asked, tasks, context };
}

const serving = {
  ...{ phase: TaskPhase.SERVING, generation: 1n, launchGeneration: 1n },
  ...{ task: "task/now", address: "192.0.2.1" },
};
const agents = {
  addressOf: ({ address }: TaskRecord) => ({ kind: "tcp", host: address, port: 1, pin: new Uint8Array(32) }),
  containerAddressOf: ({ address }: TaskRecord) => address,
  targetOf: () => undefined,
  awaitFiles: async () => true,
  answers: async () => true,
  laterStartOf: async () => undefined,
  forget: () => {},
};

/** Agents that list the files of their images at once. */
function agentsThatAnswer(all: TaskAgents): TaskAgents {
  return Object.assign(all, {
    awaitFiles: async () => true,
    answers: async () => true,
    laterStartOf: async () => undefined,
  });
}

/** A cloud whose calls for a task fail so, the last again and again. */
function failing(...outcomes: CallOutcome[]) {
  return testCloud({
    async run() {
      const outcome = (outcomes.length > 1 ? outcomes.shift() : outcomes[0]) ?? "unknown";
      return refusal(outcome, "lasts", outcome);
    },
  });
}

describe("a start", () => {
  it("does not wait longer than it may for what its task is made from, and says so", async () => {
    const make = (_spec: WorkloadSpec, step: StartStep) => step("Nimbus has not made its template", never);
    const { late, asked } = setUp({ requests: { ...requests, make } });
    await assert.rejects(late(), (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(error.message, /was not ready within 0\.05 s \(nimbus\.start_timeout\)/);
      assert.match(error.message, /: Nimbus has not made its template$/);
      return true;
    });
    assert.equal(asked(), 0);
  });

  it("asks the cloud nothing of the last one's task if it lingered in this backend's time", async () => {
    let times = 0;
    const look = async () => {
      times += 1;
      return "missing";
    };
    const { late, asked, context } = setUp({ agents: { letGo: async () => true }, poller: { look } });
    const { containerId } = await context.book.noteTask(workloadSpec().record.id, "task/before");
    await context.book.note(containerId, { phase: TaskPhase.LINGERING, request: "{}" });
    await assert.rejects(late(), /start_timeout/);
    assert.deepEqual([asked(), times], [1, 0]);
  });

  it("does not wait longer than it may for the end of the last one's task", async () => {
    const agents = { letGo: async () => false };
    const known = { phase: TaskPhase.LINGERING, task: "task/before", request: "{}" };
    const { late, tasks } = setUp({ agents, departures: { stop: never } }, known);
    await assert.rejects(late(), /start_timeout\): the task of its last run is still there$/);
    assert.equal(tasks.get(container)?.task, "task/before");
  });

  it("waits as long as it may until the agent has listed the files of the image", async () => {
    const awaitFiles = (_task: TaskRecord, signal: AbortSignal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    const { late } = setUp({ agents: { ...agents, awaitFiles } }, serving);
    await assert.rejects(late(), /start_timeout\): its agent has not listed the files of its image yet$/);
  });

  it("tells that the agent answers while that lists the files of the image", async () => {
    const told = Promise.withResolvers<string>();
    const { start } = setUp(
      { agents: { ...agents, awaitFiles: () => told.promise.then(() => true) } },
      serving,
    );
    const launched = await start({
      reached({ address = "" }) {
        told.resolve(address);
        return Promise.resolve();
      },
    });
    assert.equal(await told.promise, launched.address);
  });

  it("tells whether its agent has served a run before", async () => {
    const idle = { agents };
    assert.equal((await setUp(idle, serving).start()).reused, false);
    assert.equal((await setUp(idle, { ...serving, launchGeneration: 0n }).start()).reused, true);
    const lingering = { ...serving, phase: TaskPhase.LINGERING, generation: 0n, launchGeneration: 0n };
    const leavesAt = timestampFromMs(new ManualClock().nowMs() + 60_000);
    const alike = {
      agents,
      requests: { ...requests, isAlike: () => true },
      departures: { cancel: () => {} },
    };
    const again = setUp({ ...alike, ...unhurried }, { ...lingering, leavesAt, request: "{}" });
    assert.equal((await again.start()).reused, true);
  });

  it("that continues the last one runs in its task, whatever that was asked for, or is a conflict", async () => {
    const lingering = { ...serving, phase: TaskPhase.LINGERING, generation: 0n, launchGeneration: 0n };
    const leavesAt = timestampFromMs(new ManualClock().nowMs() + 60_000);
    const other = (answers: boolean) => ({
      ...unhurried,
      agents: { ...agents, answers: async () => answers },
      requests: { ...requests, isAlike: () => false, make: () => assert.fail("nothing is asked for") },
      departures: { cancel: () => {} },
    });
    const continues = true;
    const there = setUp(other(true), { ...lingering, leavesAt, request: "{}" });
    const { reused, reference } = await there.start({}, { continues });
    assert.deepEqual([reused, reference], [true, serving.task]);
    const conflict = { kind: "conflict", message: /the files of container c+ are gone/ };
    await assert.rejects(setUp(other(false), { ...lingering, leavesAt }).start({}, { continues }), conflict);
    await assert.rejects(setUp(other(true), lingering).start({}, { continues }), conflict);
    await assert.rejects(setUp(other(true)).start({}, { continues }), conflict);
  });

  it("that fails leaves nothing behind that still goes on", async () => {
    const begun = Promise.withResolvers<void>();
    const awaitFiles = () => begun.promise.then(() => Promise.reject(new Error("no files")));
    const { start } = setUp({ agents: { ...agents, awaitFiles } }, serving);
    let isOver = false;
    const starting = start({
      async reached() {
        begun.resolve();
        await new Promise((resolve) => setImmediate(resolve));
        isOver = true;
      },
    });
    await assert.rejects(starting, /no files/);
    assert.ok(isOver);
  });

  it("has its time for itself, without the wait for a quota", async () => {
    const refused: TaskAnswer = refusal(noRoom, "room");
    const answers: TaskAnswer[] = [refused, { task: "task/1" }];
    const cloud = testCloud({
      run: async () => answers.shift() ?? refused,
      isAnyRunning: async () => true,
    });
    const awaited = Promise.withResolvers<void>();
    const listen = () => {
      awaited.resolve();
      return () => {};
    };
    const { start, clock, tasks } = setUp({ cloud, poller: { listen } });
    const waiting = Promise.withResolvers<string>();
    let failed = false;
    let goesOn = false;
    const started = start({
      waits: waiting.resolve,
      goesOn() {
        goesOn = true;
      },
    });
    started.catch(() => {
      failed = true;
    });
    assert.equal(await waiting.promise, noRoom);
    await clock.advance(0);
    await clock.advance(120);
    assert.deepEqual({ failed, goesOn }, { failed: false, goesOn: false });
    await clock.advance(880);
    await awaited.promise;
    await clock.advance(50);
    await assert.rejects(started, /start_timeout\): Nimbus does not show it$/);
    assert.equal(goesOn, true);
    assert.equal(tasks.get(container)?.task, "task/1");
  });

  it("leaves it to who cleans up behind it whether there is a task, where the cloud's answer was lost", async () => {
    for (const outcome of ["unknown", "throttled", "refused"] as const) {
      const unanswered = new UnansweredRequests();
      await assert.rejects(setUp({ cloud: failing(outcome), unanswered }).late(), new RegExp(outcome));
      const expected = outcome === "unknown" ? "unknown" : "none";
      assert.equal(await unanswered.answerTo(container), expected, outcome);
    }
  });

  it("leaves it so, too, where the cloud refuses it later", async () => {
    const unanswered = new UnansweredRequests();
    const { late } = setUp({ cloud: failing("unknown", "refused"), unanswered, ...unhurried });
    await assert.rejects(late(), /refused/);
    assert.equal(await unanswered.answerTo(container), "unknown");
  });

  it("goes on with an agent that calls in, where nobody can dial it", async () => {
    const pin = new Uint8Array(32).fill(1);
    const nobody = { credentialsFor: () => Promise.reject(new Error("nobody is dialled here")) };
    const met: string[] = [];
    const finder: AgentFinder = {
      traffic: directTraffic,
      agentReach: agentsDialled,
      addressOf: ({ address }) => ({ kind: "unix", path: `/nowhere/${address}` }),
      containerAddressOf: () => "",
      async await(_containerId, { address }) {
        met.push(address);
        return { address, pin };
      },
      meet: never,
      forget: () => {},
      describeSilence: () => "its agent has not called",
    };
    const view = taskView({ task: "task/1", address: "rendezvous" });
    const { start, tasks } = setUp({
      ...unhurried,
      cloud: testCloud({ run: async () => ({ task: "task/1" }) }),
      finder,
      agents: agentsThatAnswer(new TaskAgents(finder, nobody, {} as Sealer)),
      stored: { applyStaged: () => Promise.resolve() },
      poller: {
        listen(_task: string, told: TaskListener) {
          setImmediate(() => told(view));
          return () => {};
        },
      },
    });
    const launched = await start();
    assert.deepEqual(launched.agent, { kind: "unix", path: "/nowhere/rendezvous" });
    assert.equal(launched.address, "");
    assert.deepEqual(met, ["rendezvous"]);
    const { address, agentPin, phase } = tasks.get(container) ?? {};
    assert.deepEqual([address, agentPin, phase], ["rendezvous", pin, TaskPhase.SERVING]);
  });

  describe("whose state is older than the cloud", () => {
    const pin = new Uint8Array(32).fill(1);
    const finder = {
      addressOf: ({ address }: { address: string }) => ({ kind: "unix", path: address }),
      containerAddressOf: () => "",
      await: async () => ({ address: "rendezvous", pin }),
    } as unknown as AgentFinder;

    /** One for which a task of a later start than the state knew runs, whose agent was told another number last. */
    function since(
      view: Partial<TaskView>,
      serves: bigint | "nothing",
      { silences = 0, known }: { readonly silences?: number; readonly known?: TaskFields } = {},
    ) {
      const clock = new ManualClock();
      const stopped: string[] = [];
      const seenOff: string[] = [];
      const stays: string[] = [];
      const places: TaskPlace[] = [];
      const describe = async (name: string, place: TaskPlace) => {
        if (name === view.prepared?.name && serves === "nothing") {
          return { address: place.address, pin, record: undefined, images: [] };
        }
        places.push(place);
        if (places.length <= silences) {
          throw unavailable("it does not answer");
        }
        const { record } = workloadSpec({ generation: serves === "nothing" ? 0n : serves });
        return { address: place.address, pin, record: serves === "nothing" ? undefined : record, images: [] };
      };
      const later = new Map(known === undefined ? [[container, "task/since"]] : []);
      const { start, tasks } = setUp(
        {
          ...unhurried,
          ...{ clock, finder, later },
          cloud: testCloud({ run: async () => ({ task: "task/new" }) }),
          agents: Object.assign(
            agentsThatAnswer(new TaskAgents(finder, {} as CloudAuthority, {} as Sealer)),
            {
              describe,
              laterStartOf: async () => serves,
            },
          ),
          stored: { applyStaged: () => Promise.resolve() },
          departures: {
            expect: (task: string) => void seenOff.push(task),
            cancel: (task: string) => void stays.push(task),
            stop: async (task: string) => void stopped.push(task),
          },
          poller: {
            look: async (task: string) =>
              taskView({ task, containerId: container, address: "192.0.2.1", ...view }),
            listen(task: string, told: TaskListener) {
              setImmediate(() => told(taskView({ task, address: "rendezvous" })));
              return () => {};
            },
          },
        },
        known,
      );
      const started = (generation: bigint) => passing(clock, start({}, workloadSpec({ generation })));
      return { started, tasks, later, stopped, seenOff, stays, places };
    }

    for (const [what, serves] of [
      ["its agent runs", 5n],
      ["its agent was never told to run", "nothing"],
    ] as const) {
      it(`takes up the task that ${what}, and starts none beside it`, async () => {
        const generation = serves === "nothing" ? 3n : serves;
        const { started, tasks, later, stopped, places } = since({ generation: 3n }, serves);
        const { reference, reused } = await started(generation);
        assert.deepEqual([reference, reused], ["task/since", serves !== "nothing"]);
        assert.deepEqual(places, [{ task: "task/since", address: "192.0.2.1", launchGeneration: 3n }]);
        const { phase, launchGeneration, generation: noted, address } = tasks.get(container) ?? {};
        assert.deepEqual([phase, launchGeneration, noted], [TaskPhase.SERVING, 3n, generation]);
        assert.equal(address, "192.0.2.1");
        assert.deepEqual([later.size, stopped], [0, []]);
      });
    }

    const lingering = { ...serving, phase: TaskPhase.LINGERING, task: "task/since", request: "{}" };

    it("takes up the task that lingered when the state was backed up, and has been used again", async () => {
      const { started, tasks, stopped, stays } = since({ generation: 1n }, 2n, { known: lingering });
      assert.equal((await started(2n)).reference, "task/since");
      const { phase, launchGeneration, generation } = tasks.get(container) ?? {};
      assert.deepEqual([phase, launchGeneration, generation], [TaskPhase.SERVING, 1n, 2n]);
      assert.deepEqual([stopped, stays], [[], ["task/since"]]);
    });

    it("does not use a task again that lingers by the state, and serves a later start", async () => {
      const known = { ...lingering, leavesAt: timestampFromMs(new ManualClock().nowMs() + 60_000) };
      const { started, tasks } = since({ generation: 1n }, 3n, { known });
      await assert.rejects(started(2n), new LaterStart(3n, "task/since"));
      assert.equal(tasks.get(container)?.phase, TaskPhase.LINGERING);
    });

    for (const phase of [TaskPhase.UNSPECIFIED, TaskPhase.SERVING]) {
      it(`was under way when that was backed up leaves its task alone, which serves a later one (${TaskPhase[phase]})`, async () => {
        const known = { ...serving, phase, task: "task/since", request: "{}" };
        const { started, tasks, later, stopped } = since({ generation: 1n }, 3n, { known });
        await assert.rejects(started(1n), new LaterStart(3n, "task/since"));
        const { phase: noted, task, address } = tasks.get(container) ?? {};
        assert.deepEqual(
          [noted, task],
          [TaskPhase.LINGERING, "task/since"],
          "else it would be stopped as nobody's",
        );
        assert.notEqual(address, "", "else its agent could not be asked again");
        assert.equal(later.get(container), "task/since");
        assert.equal((await started(3n)).reference, "task/since");
        assert.deepEqual(stopped, []);
      });
    }

    it("is refused beside a run of a later start, be its task of this one", async () => {
      const { started, tasks, later, stopped } = since({ generation: 3n }, 5n);
      await assert.rejects(started(3n), new LaterStart(5n, "task/since"));
      assert.deepEqual([tasks.size, later.size, stopped], [0, 1, []]);
    });

    it("has the task of an earlier start end, whose number has passed, and runs in another", async () => {
      const { started, later, stopped, seenOff } = since({ generation: 3n }, 5n);
      assert.equal((await started(6n)).reference, "task/new");
      assert.deepEqual([later.size, stopped, seenOff], [0, ["task/since"], ["task/since"]]);
    });

    it("does not wait for a prepared task whose claim has failed, but has it end", async () => {
      const view = { generation: 3n, prepared: { name: "e".repeat(64), shape: "s" } };
      const unclaimed = since(view, "nothing", { silences: Infinity });
      assert.equal((await unclaimed.started(3n)).reference, "task/new");
      assert.deepEqual([unclaimed.later.size, unclaimed.stopped], [0, ["task/since"]]);
      const { started, stopped } = since(view, 3n, { silences: 4 });
      assert.equal((await started(3n)).reference, "task/since");
      assert.deepEqual(stopped, []);
    });

    it("waits until the agent tells which start it serves, or its task has ended", async () => {
      const { started, places, stopped } = since({ generation: 3n }, 5n, { silences: 4 });
      assert.equal((await started(5n)).reference, "task/since");
      assert.equal(places.length, 5);
      const silent = since({ generation: 3n }, 5n, { silences: Infinity });
      await assert.rejects(silent.started(3n), /start_timeout\): it does not answer$/);
      assert.deepEqual([stopped, silent.stopped, silent.tasks.size], [[], [], 0]);
      for (const end of [{ stopping: true }, { stopped: true }]) {
        const ended = since({ generation: 3n, ...end }, 5n, { silences: Infinity });
        assert.equal((await ended.started(3n)).reference, "task/new");
        assert.deepEqual(ended.stopped, []);
      }
    });
  });

  describe("that fails for a reason that passes", () => {
    const pin = new Uint8Array(32).fill(1);
    const finder = {
      addressOf: ({ address }: { address: string }) => ({ kind: "unix", path: address }),
      containerAddressOf: () => "",
      await: async (_containerId: string, address: string) => ({ address, pin }),
      meet: never,
      forget: () => {},
      describeSilence: () => "",
    } as unknown as AgentFinder;

    /** A start whose calls are answered so, and whose tasks end for these reasons; those without one come up. */
    function troubled(
      answers: (TaskAnswer | "down")[],
      ends: Readonly<Record<string, Partial<TaskView>>>,
      known?: TaskFields,
      lost: Map<string, "ends" | "answers again"> = new Map(),
    ) {
      const unanswered = new UnansweredRequests();
      const asked: string[] = [];
      const told: string[] = [];
      const stopped: string[] = [];
      /** Tasks whose agents the engine has met, in order. */
      const met = new Set<string>();
      const clock = new ManualClock();
      const cloud = testCloud({
        async run(request) {
          asked.push(request);
          const answer = answers[Math.min(asked.length, answers.length) - 1] ?? "down";
          return answer === "down" ? refusal("down", "passes", "unknown") : answer;
        },
        listOwn: async () => ["0", "1", "earlier", "other"],
      });
      const parts = {
        ...unhurried,
        cloud,
        clock,
        finder,
        unanswered,
        requests: {
          ...requests,
          make: async () => "gale",
          another: (request: string, last: string) => `${request}+${last}`,
          otherCapacity: (request: string) => (request.startsWith("gale") ? "oars" : undefined),
        },
        agents: Object.assign(
          new TaskAgents(
            finder,
            { credentialsFor: () => Promise.reject(new Error("nobody is dialled here")) },
            {} as Sealer,
          ),
          {
            awaitFiles: async ({ task }: TaskRecord) => !lost.has(task),
            answers: async ({ task }: TaskRecord) => !lost.has(task),
          },
        ),
        stored: {
          applyStaged: () => Promise.resolve(),
          leaveToCloud: () => Promise.resolve(),
          forgetLoss: () => Promise.resolve(),
        },
        silences: new SinceWhen(60_000),
        ends: { of: async () => ({ exit: undefined, untold: "" }) },
        poller: {
          listen(task: string, tell: TaskListener) {
            const isMet = met.has(task);
            if (isMet && lost.get(task) === "answers again") {
              lost.delete(task);
            }
            const end = lost.has(task) && !isMet ? undefined : ends[task];
            const now = end === undefined ? { address: "rendezvous" } : { stopped: true, ...end };
            setImmediate(() => tell(taskView({ task, ...now })));
            return () => {};
          },
          hasten: () => {},
          look: async (task: string) => taskView({ task, containerId: container, ...ends[task] }),
          describe: async () => ({
            views: [
              taskView({ task: "0", containerId: container, generation: 1n }),
              taskView({ task: "1", containerId: container, generation: 1n }),
              taskView({ task: "earlier", containerId: container }),
              taskView({ task: "other", containerId: "d", generation: 1n }),
            ],
            failed: new Map(),
          }),
        },
        departures: { stop: async (task: string) => void stopped.push(task) },
        instance: "one",
      };
      const { start, context } = setUp(parts, known);
      const untroubled: Partial<LaunchProgress> = {
        waits: (reason: string) => void told.push(reason),
        goesOn: () => void told.push("goes on"),
        reached: async ({ reference }: { readonly reference: string }) => void met.add(reference),
      };
      const left = () => unanswered.answerTo(container);
      const failure = new Error("the agent is away");
      const lose = (isTold: boolean) => mayLaunchAgain(context, container, { isTold, failure });
      const end = () => context.book.note(container, { phase: TaskPhase.GONE });
      const started = (progress: Partial<LaunchProgress> = {}) =>
        passing(clock, start({ ...untroubled, ...progress }));
      return { started, clock, asked, told, stopped, left, met, lose, end };
    }

    /** The record of a start that the backend's end has cut off before the cloud's answer. */
    const cutOff: TaskFields = { launchGeneration: 1n, request: "gale", phase: TaskPhase.UNSPECIFIED };

    const fog = { reason: "the fog is too thick" };
    const noImage = { reason: "there is no such image", prospect: "lasts" } as const;
    const leaving = { stopping: true, isReasonTold: true };

    it("asks for another task, which a new request names, and tells each try", async () => {
      const answers = ["1", "2", "3"].map((task) => ({ task }));
      const { started, asked, told } = troubled(answers, { 1: fog, 2: fog });
      const { reference } = await started();
      assert.equal(reference, "3");
      assert.deepEqual(asked, ["gale", "gale+1", "gale+1+2"]);
      assert.deepEqual(told, [
        "goes on",
        "try 2 of 3 in 2 s: the fog is too thick",
        "goes on",
        "try 3 of 3 in 10 s: the fog is too thick",
        "goes on",
      ]);
    });

    it("asks for another task where the agent of one is lost before it was told to run", async () => {
      const answers = ["1", "2", "3"].map((task) => ({ task }));
      const lost = new Map([["1", "ends"]] as const);
      const { started, asked, met, told, stopped } = troubled(answers, { 1: fog }, undefined, lost);
      const { reference, reused } = await started();
      assert.deepEqual({ reference, reused }, { reference: "2", reused: false });
      assert.deepEqual(asked, ["gale", "gale+1"]);
      assert.deepEqual([...met], ["1", "2"]);
      assert.deepEqual(stopped, ["1"]);
      assert.deepEqual(told, ["goes on", "try 2 of 3 in 2 s: the fog is too thick", "goes on"]);
      const gone = new Map([["1", "ends"]] as const);
      await assert.rejects(troubled(answers, { 1: noImage }, undefined, gone).started(), /no such image/);
    });

    it("goes on with the same task where an agent that was lost answers again", async () => {
      const lost = new Map([["1", "answers again"]] as const);
      const { started, asked, stopped } = troubled([{ task: "1" }], {}, undefined, lost);
      assert.equal((await started()).reference, "1");
      assert.deepEqual([asked, stopped], [["gale"], []]);
    });

    it("tells its agent again that did not answer after its launch, which is no try", async () => {
      const { started, asked, told, lose } = troubled([{ task: "1" }, { task: "2" }], { 1: fog });
      await started();
      told.length = 0;
      for (const isTold of [true, false, true, false]) {
        assert.equal(await lose(isTold), true);
        assert.equal((await started()).reference, "2");
      }
      assert.deepEqual(
        new Set(told),
        new Set(["its agent is asked again in 1 s: the agent is away", "goes on"]),
      );
      assert.deepEqual(asked, ["gale", "gale+1"]);
    });

    it("asks an agent again until its time is over, between its launches too", async () => {
      const { started, clock, lose } = troubled([{ task: "1" }], {});
      await started();
      await clock.advance(unhurried.settings.startTimeoutMs - 1);
      assert.equal(await lose(false), true);
      await assert.rejects(started(), /start_timeout\): the agent is away$/);
    });

    it("has the engine meet an agent again that did not answer it, and answers now", async () => {
      const { started, asked, told } = troubled([{ task: "1" }], {});
      const meetings: string[] = [];
      const { reference } = await started({
        async reached({ reference }) {
          if (meetings.push(reference) < 5) {
            throw unavailable("cannot reach the agent: no answer within 10 s");
          }
        },
      });
      assert.equal(reference, "1");
      assert.deepEqual(meetings, ["1", "1", "1", "1", "1"]);
      assert.deepEqual([asked, told], [["gale"], ["goes on"]]);
    });

    it("asks for another task where that of an agent ends that was lost after its launch", async () => {
      const ends: Record<string, Partial<TaskView>> = {};
      const lost = new Map<string, "ends" | "answers again">();
      const { started, asked, lose } = troubled([{ task: "1" }, { task: "2" }], ends, undefined, lost);
      await started();
      ends["1"] = fog;
      lost.set("1", "ends");
      assert.equal(await lose(false), true);
      assert.equal((await started()).reference, "2");
      assert.deepEqual(asked, ["gale", "gale+1"]);
    });

    for (const [end, goesOn] of [
      [{ ...fog, stopped: true, exitCode: 125 }, "another task"],
      [{ ...fog, stopped: true, exitCode: 137 }, "nothing"],
      [{ ...fog, stopped: true }, "nothing"],
      [{}, "its agent"],
    ] as const) {
      const words = goesOn === "nothing" ? "fails" : `goes on with ${goesOn}`;
      it(`${words} where its lost agent may have been told, and the cloud tells ${JSON.stringify(end)}`, async () => {
        const ends: Record<string, Partial<TaskView>> = {};
        const lost = new Map<string, "ends" | "answers again">();
        const { started, asked, lose } = troubled([{ task: "1" }, { task: "2" }], ends, undefined, lost);
        await started();
        ends["1"] = end;
        lost.set("1", "ends");
        assert.equal(await lose(true), goesOn !== "nothing");
        if (goesOn === "its agent") {
          assert.equal((await started()).reference, "1");
          assert.deepEqual(asked, ["gale"]);
        }
        if (goesOn === "another task") {
          assert.equal((await started()).reference, "2");
          assert.deepEqual(
            asked,
            ["gale", "gale+1"],
            "the same request would be answered with the task that has ended",
          );
        }
      });
    }

    it("fails where the task of an agent that may have been told is found to have ended before it is asked again", async () => {
      const lost = new Map<string, "ends" | "answers again">();
      const { started, asked, lose, end } = troubled([{ task: "1" }, { task: "2" }], {}, undefined, lost);
      await started();
      lost.set("1", "ends");
      assert.equal(await lose(true), true);
      await end();
      await assert.rejects(started(), /the agent is away/);
      assert.deepEqual(asked, ["gale"]);
    });

    it("is not asked for again where it is taken up, since its command may have begun", async () => {
      const lost = new Map([["task/now", "ends"]] as const);
      const { started, asked } = troubled([], { "task/now": fog }, { ...serving, agentPin: pin }, lost);
      assert.equal((await started()).reference, "task/now");
      assert.deepEqual(asked, []);
    });

    it("is not asked for again where the agent that it was taken up from is lost", async () => {
      const lost = new Map<string, "ends" | "answers again">();
      const ends = { "task/now": { ...fog, stopped: true, exitCode: 0 } };
      const known = { ...serving, agentPin: pin, request: "" };
      const { started, asked, lose } = troubled([], ends, known, lost);
      await started();
      lost.set("task/now", "ends");
      assert.equal(await lose(false), false);
      assert.deepEqual(asked, []);
    });

    it("fails with the cloud's words where it has tried enough", async () => {
      const answers = ["1", "2", "3"].map((task) => ({ task }));
      const { started, asked } = troubled(answers, { 1: fog, 2: fog, 3: fog });
      await assert.rejects(started(), /failed to start a task for the container: the fog is too thick$/);
      assert.equal(asked.length, 3);
    });

    it("has the task of each try stopped, which may be on its way all the same", async () => {
      const answers = ["1", "2"].map((task) => ({ task }));
      const { started, stopped } = troubled(answers, { 1: { ...fog, stopped: false, ...leaving } });
      await started();
      assert.deepEqual(stopped, ["1"]);
    });

    it("has three tries in all, whatever fails them", async () => {
      const answers = [refusal("rain"), { task: "1" }, refusal("hail", "passes", "refused")];
      const { started, asked } = troubled(answers, { 1: fog });
      await assert.rejects(started(), /hail$/);
      assert.equal(asked.length, 3);
    });

    it("tells before any time has passed that it is denied, and by what words", async () => {
      const clock = new ManualClock();
      const { logger, warnings } = capturedLogger();
      const told: string[] = [];
      const cloud = testCloud({ run: async () => refusal("you may not pass a role", "denied", "refused") });
      const { start } = setUp({ ...unhurried, cloud, clock, logger });
      const starting = start({ waits: (reason: string) => void told.push(reason) });
      starting.catch(() => {});
      await clock.advance(0);
      assert.match(told.join(), /^it is denied, .* in 1 s: you may not pass a role$/);
      assert.match(warnings().join(), /it is denied, .* in 1 s: you may not pass a role/);
      await assert.rejects(passing(clock, starting), /you may not pass a role$/);
    });

    it("asks again as long as a right may be new that it is denied, which is no try", async () => {
      const denied = refusal("denied", "denied", "refused");
      const { started, asked, told } = troubled([denied, denied, { task: "1" }, { task: "2" }], { 1: fog });
      await started();
      assert.equal(asked.length, 4);
      assert.deepEqual(
        told.filter((each) => each !== "goes on"),
        [
          "it is denied, or not allowed yet, and asked for again in 1 s: denied",
          "it is denied, or not allowed yet, and asked for again in 2 s: denied",
          "try 2 of 3 in 2 s: the fog is too thick",
        ],
      );
      const never = troubled([denied], {});
      await assert.rejects(never.started(), /denied$/);
      assert.equal(never.told.at(-1), "it is denied, or not allowed yet, and asked for again in 3 s: denied");
    });

    it("is not tried again for a reason that lasts", async () => {
      const { started, asked } = troubled([{ task: "1" }], { 1: noImage });
      await assert.rejects(started(), /there is no such image/);
      assert.equal(asked.length, 1);
    });

    it("asks anew where the call for a task was refused", async () => {
      const { started, asked } = troubled([refusal(fog.reason), { task: "1" }], {});
      await started();
      assert.deepEqual(asked, ["gale", "gale+"]);
    });

    it("asks for no second task while nobody knows whether there is a first, but for that again", async () => {
      const refused = refusal(fog.reason, "passes", "refused");
      for (const [answers, known] of [
        [["down", refused], undefined],
        [[refused], cutOff],
      ] as const) {
        const found = troubled([...answers, { task: "1" }], {}, known);
        assert.equal((await found.started()).reference, "1");
        assert.deepEqual(new Set(found.asked), new Set(["gale"]));
        assert.equal(await found.left(), "none");
        const lost = troubled([...answers], {}, known);
        await assert.rejects(lost.started(), /the fog is too thick/);
        assert.deepEqual(new Set(lost.asked), new Set(["gale"]));
        assert.equal(await lost.left(), "unknown");
      }
    });

    it("asks for another task once the cloud has said that it has no capacity for the one in doubt", async () => {
      for (const outcome of [undefined, "refused"] as const) {
        const calm = refusal("there is no wind", "capacity", outcome);
        const lost = troubled(["down", calm, { task: "1" }], {});
        await lost.started();
        assert.deepEqual(lost.asked, ["gale", "gale", "oars+"]);
        const resumed = troubled([calm, calm, { task: "1" }], {}, cutOff);
        await resumed.started();
        assert.deepEqual(resumed.asked, ["gale", "oars+", "oars++"]);
      }
    });

    it("stops the task that the one in doubt was after all, once another has taken its place", async () => {
      const calm = refusal("there is no wind", "capacity", "refused");
      for (const end of [{}, { 1: noImage }] as const) {
        const lost = troubled(["down", calm, { task: "1" }], end);
        await lost.started().catch(() => {});
        assert.deepEqual(lost.stopped, ["0"]);
      }
      const clear = troubled([calm, { task: "1" }], {});
      await clear.started();
      assert.deepEqual(clear.stopped, []);
    });

    it("takes another kind of capacity at once, and tries that a few times", async () => {
      const calm = refusal("there is no wind", "capacity");
      const { started, asked, told } = troubled([calm, calm, { task: "1" }], {});
      await started();
      assert.deepEqual(asked, ["gale", "oars+", "oars++"]);
      assert.deepEqual(told, [
        "another kind of capacity is asked for: there is no wind",
        "try 2 of 3 in 2 s: there is no wind",
        "goes on",
      ]);
    });
  });

  it("does not wait longer than it may for a task", async () => {
    const cloud = testCloud({
      run: (_request, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(signal.reason as Error));
        }),
    });
    const { late, tasks } = setUp({ cloud });
    await assert.rejects(late(), /start_timeout\): Nimbus has not answered StartTask$/);
    assert.equal(tasks.get(container)?.phase, TaskPhase.UNSPECIFIED);
  });
});
