/** Starts whose clients were told of a failure, as a process that was to answer had ended. */
import assert from "node:assert/strict";
import { rename } from "node:fs/promises";
import { describe, it } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { callerLost } from "../../../src/backends/concurrency/caller-lost.ts";
import { repeatedWithinMs } from "../../../src/backends/engine/containers/start/start-caller.ts";
import { restartContainer } from "../../../src/backends/engine/containers/run/restart-container.ts";
import { startContainer } from "../../../src/backends/engine/containers/start/start-container.ts";
import { timestampOfNs } from "../../../src/backends/model/records.ts";
import { isErrorKind } from "../../../src/common/errors.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import {
  ContainerStatus,
  type CreateContainerRequestSchema,
} from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

const undone = /was undone before anything ran/;

for (const cloud of [false, true]) {
  describe(`a start whose answer is lost, ${cloud ? "in a cloud" : "on a machine"}`, () => {
    let clock: ManualClock;
    const bench = EngineBench.ofEach(() => {
      clock = new ManualClock(Date.now());
      return { cloud, clock };
    });

    const recordOf = (id: string) => bench.state.containers.get(id);
    const statusOf = (id: string) => recordOf(id)?.state?.status;
    const startsOf = (id: string): number => bench.machine.workloads.get(id)?.agent?.starts.length ?? 0;
    const isRunning = (id: string) => () => statusOf(id) === ContainerStatus.RUNNING;
    const isAtRest = (id: string) => () => recordOf(id)?.phase === Phase.UNSPECIFIED;
    const inState = (id: string) => () => [statusOf(id), recordOf(id)?.state?.exitCode];

    /** A container whose start the backend's end has cut off, with the call's token `first`. */
    const interrupted = async (
      more: MessageInitShape<typeof CreateContainerRequestSchema> = {},
      fields: Partial<ContainerRecord> = {},
    ): Promise<string> => {
      const id = await bench.createScript("exec sleep 1000", more);
      const record = recordOf(id);
      assert.ok(record !== undefined);
      const journalled = { phase: Phase.STARTING, generation: 1n, startToken: "first", startAwaited: true };
      const begun = { ...journalled, ...fields };
      await bench.state.commit((change) => change.containers.put({ ...record, ...begun }));
      await bench.stopBackend();
      await bench.startBackend();
      return id;
    };

    /** A start that is asked for by a call that can be ended with a reason. */
    const callFor = (id: string) => {
      const call = new AbortController();
      const outcome = startContainer(bench.engine.context, id, "user", undefined, call.signal, {
        clientToken: "first",
      });
      outcome.catch(() => undefined);
      return { call, outcome };
    };

    it("is taken up five times in turn: if it ends each backend, others go on", async () => {
      const interruptedAt = async (startResumed: Timestamp) =>
        await interrupted({}, { startAwaited: false, startResumes: 5, startResumed });
      const slowly = await interruptedAt(timestampOfNs(clock.nowNs() - 61_000_000_000n));
      await untilTrue(isRunning(slowly));
      assert.equal(recordOf(slowly)?.startResumes, 1);
      const id = await interruptedAt(timestampOfNs(clock.nowNs()));
      await untilTrue(isAtRest(id));
      assert.equal(statusOf(id), ContainerStatus.CREATED);
      assert.match(recordOf(id)?.state?.error ?? "", /^the backend has ended 5 times in turn, soon after/);
      await bench.containers.startContainer({ container: id });
      assert.deepEqual([statusOf(id), recordOf(id)?.startResumes], [ContainerStatus.RUNNING, 0]);
    });

    it("of its agent has begun a process, which runs once", async () => {
      bench.machine.losesStarts = true;
      const id = await bench.createScript("exec sleep 1000");
      await bench.containers.startContainer({ container: id });
      const { pid } = bench.machine.agentOf(id);
      assert.deepEqual([statusOf(id), recordOf(id)?.state?.pid], [ContainerStatus.RUNNING, BigInt(pid)]);
      await bench.containers.killContainer({ container: id, signal: "KILL" });
      assert.equal(await bench.wait(id), 137);
    });

    it("goes on with another agent where its own is lost before it was told to run", async () => {
      bench.machine.lostAfterLaunch = 2;
      const id = await bench.createScript("exec sleep 60");
      await bench.containers.startContainer({ container: id });
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
      assert.deepEqual(
        bench.machine.judgedLosses.map(({ isTold }) => isTold),
        [false, false],
      );
      await bench.containers.killContainer({ container: id, signal: "KILL" });
      assert.equal(await bench.wait(id), 137);
    });

    it("is not ended by the watch of an agent that was lost in it", async () => {
      bench.machine.lostAfterLaunch = 1;
      bench.machine.silence = Promise.withResolvers();
      const id = await bench.createScript("exec sleep 60");
      const { outcome } = callFor(id);
      await untilTrue(async () => {
        await clock.advance(1_000); // The watch is cut, and asks what has become of the run, as the start does.
        return bench.machine.unansweredQuestions >= 2;
      });
      bench.machine.silence.resolve();
      bench.machine.silence = undefined;
      await outcome;
      await bench.containers.renameContainer({ container: id, name: "later" }); // Behind what has waited for the container.
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
    });

    it("fails where its agent is lost with an attachment of the client's", async () => {
      bench.machine.lostAfterLaunch = 1;
      const id = await bench.createScript("exec sleep 60");
      const { reservations } = bench.engine.context.live.of(id);
      reservations.reserve(new AbortController().signal);
      const outcome = bench.containers.startContainer({ container: id });
      await assert.rejects(outcome, (error: unknown) => isErrorKind(error, "unavailable"));
      assert.equal(startsOf(id), 0);
    });

    it("goes on with its agent, that did not answer and does later", async () => {
      bench.machine.awayAfterLaunch = 3;
      const id = await bench.createScript("exec sleep 60");
      await bench.containers.startContainer({ container: id });
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
      assert.equal(bench.machine.judgedLosses.length, 3);
    });

    const skip = cloud ? false : "a machine lists what its processes have begun";
    /** A container whose process has begun and ended with 3, both while its start was not answered; then there is another backend. */
    const ranUnseen = async () => {
      const answers = Promise.withResolvers<void>();
      bench.machine.startAnswers = answers.promise;
      const id = await bench.createScript("exit 3");
      const { outcome } = callFor(id);
      await untilTrue(() => startsOf(id) === 1);
      const agent = bench.machine.agentOf(id);
      await untilTrue(() => agent.exit !== undefined);
      await bench.crashBackend();
      answers.resolve();
      await outcome.catch(() => undefined);
      await bench.startBackend();
      return { id, agent };
    };
    it("fails where its agent is lost and may have been told to run", { skip }, async () => {
      const answers = Promise.withResolvers<void>();
      bench.machine.startAnswers = answers.promise;
      const id = await bench.createScript("exec sleep 60");
      const { outcome } = callFor(id);
      await untilTrue(() => startsOf(id) === 1);
      bench.machine.endsAreLate = true;
      await bench.machine.agentOf(id).crash();
      await assert.rejects(outcome, (error: unknown) => isErrorKind(error, "unavailable"));
      answers.resolve();
      assert.deepEqual(
        bench.machine.judgedLosses.map(({ isTold }) => isTold),
        [true],
      );
    });

    const launches = () => bench.machine.calls.filter((call) => call === "launch").length;

    it("has begun and ended while no backend could record either: it counts as run", { skip }, async () => {
      const { id, agent } = await ranUnseen();
      await untilTrue(() => statusOf(id) === ContainerStatus.EXITED);
      assert.deepEqual([recordOf(id)?.phase, recordOf(id)?.state?.exitCode], [Phase.UNSPECIFIED, 3]);
      assert.deepEqual([agent.starts.length, launches()], [1, 1]);
    });

    it("is not undone while nobody knows whether it has run", { skip }, async () => {
      bench.machine.endsAreLate = true;
      const { id } = await ranUnseen();
      await clock.advance(2 * repeatedWithinMs);
      assert.equal(recordOf(id)?.phase, Phase.STARTING);
      bench.machine.endsAreLate = false;
      await untilTrue(async () => {
        await clock.advance(5_000);
        return statusOf(id) === ContainerStatus.EXITED;
      });
      assert.deepEqual([recordOf(id)?.state?.exitCode, launches()], [3, 1]);
    });

    it("is ended by a user while nobody knows whether it has run", { skip }, async () => {
      bench.machine.endsAreLate = true;
      const { id } = await ranUnseen();
      await bench.containers.removeContainer({ container: id, force: true });
      assert.equal(statusOf(id) ?? ContainerStatus.REMOVING, ContainerStatus.REMOVING);
      assert.equal(launches(), 1);
    });

    it("is undone where nobody asks again, and made anew when somebody does later", async () => {
      const id = await interrupted();
      await clock.advance(repeatedWithinMs - 1);
      assert.deepEqual([recordOf(id)?.phase, startsOf(id)], [Phase.STARTING, 0]);
      await clock.advance(1);
      await untilTrue(isAtRest(id));
      assert.deepEqual(inState(id)(), [ContainerStatus.CREATED, 128]);
      assert.match(recordOf(id)?.state?.error ?? "", undone);
      assert.equal(startsOf(id), 0);
      await bench.containers.startContainer({ container: id, clientToken: "second" });
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
    });

    it("goes on for a call that repeats it, which is answered with its outcome", async () => {
      const id = await interrupted();
      await bench.containers.startContainer({ container: id, clientToken: "first" });
      await clock.advance(repeatedWithinMs);
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
    });

    it("fails for a call that repeats it as it fails", async () => {
      bench.machine.busyLaunches = Promise.withResolvers();
      bench.machine.busyLaunches.promise.catch(() => undefined); // It may be rejected before it is awaited.
      const id = await interrupted();
      const repeated = bench.containers.startContainer({ container: id, clientToken: "first" });
      bench.machine.busyLaunches.reject(new Error("no room"));
      await assert.rejects(repeated, /no room/);
      assert.equal(startsOf(id), 0);
    });

    it("goes on where its container has a restart policy that wants it", async () => {
      const id = await interrupted({ hostConfig: { restartPolicy: { name: "always" } } });
      await untilTrue(isRunning(id));
    });

    it("goes on where its client had left: it was told of no failure", async () => {
      const id = await interrupted({}, { startAwaited: false });
      await untilTrue(isRunning(id));
    });

    it("gives way to another start at once", async () => {
      const id = await interrupted();
      await bench.containers.startContainer({ container: id, clientToken: "second" });
      assert.deepEqual([recordOf(id)?.generation, startsOf(id)], [2n, 1]);
    });

    it("does not hold up whoever looks at its container, or removes it", async () => {
      const id = await interrupted();
      const { container } = await bench.containers.inspectContainer({ container: id, afterStart: true });
      assert.equal(container?.state?.status, ContainerStatus.CREATED);
      await bench.containers.removeContainer({ container: id, force: true });
      assert.equal(statusOf(id) ?? ContainerStatus.REMOVING, ContainerStatus.REMOVING);
    });

    /** Whether a container runs on whose process has begun in a start that the state has under way. */
    const runsOn = async (hide: (id: string) => void): Promise<void> => {
      const id = await bench.runScript("exec sleep 1000");
      const record = recordOf(id);
      assert.ok(record !== undefined);
      const { pid } = bench.machine.agentOf(id);
      const begun = { phase: Phase.STARTING, startAwaited: true };
      await bench.state.commit((change) => change.containers.put({ ...record, ...begun }));
      await bench.stopBackend();
      hide(id);
      await bench.startBackend();
      await untilTrue(isAtRest(id));
      await clock.advance(repeatedWithinMs);
      assert.deepEqual([statusOf(id), recordOf(id)?.state?.error], [ContainerStatus.RUNNING, ""]);
      assert.equal(bench.machine.agentOf(id).pid, pid);
    };

    it("is not undone once its process runs", async () => {
      await runsOn(() => undefined);
    });

    it("is not undone either where a restored state does not know that its agent was reached", {
      skip,
    }, async () => {
      await runsOn((id) => void bench.machine.unanswered.add(id));
    });

    /** A start whose launch waits. */
    const called = async (more: MessageInitShape<typeof CreateContainerRequestSchema> = {}) => {
      const id = await bench.createScript("exec sleep 1000", more);
      bench.machine.busyLaunches = Promise.withResolvers();
      const { call, outcome } = callFor(id);
      await untilTrue(() => bench.machine.calls.includes("launch"));
      assert.equal(recordOf(id)?.startAwaited, true);
      return { id, call, outcome };
    };

    it("is undone where only the frontend has ended, and does not ask again", async () => {
      const { id, call, outcome } = await called();
      call.abort(callerLost);
      bench.machine.busyLaunches?.resolve();
      await untilTrue(() => bench.machine.workloads.get(id)?.agent !== undefined);
      await clock.advance(repeatedWithinMs);
      await assert.rejects(outcome, (error) => isErrorKind(error, "conflict"));
      assert.equal(startsOf(id), 0);
    });

    /** A start whose agent waits for the session of an attachment. */
    const awaitingAttachment = async () => {
      bench.machine.hasPatientAgents = true;
      const id = await bench.createScript("exec sleep 1000");
      const attached = bench.containers.attachContainer({ container: id, stream: true, stdout: true });
      await attached[Symbol.asyncIterator]().next();
      const { call, outcome } = callFor(id);
      await untilTrue(() => startsOf(id) === 1);
      return { id, call, outcome, agent: bench.machine.agentOf(id) };
    };

    it("counts as told to an agent that may have been, however often that is away afterwards", async () => {
      bench.machine.startAnswers = new Promise(() => undefined);
      bench.machine.launchesAgain = () => {
        bench.machine.awayAfterLaunch = 1;
        return bench.machine.judgedLosses.length === 1;
      };
      const id = await bench.createScript("exec sleep 60");
      const { outcome } = callFor(id);
      await untilTrue(() => startsOf(id) === 1);
      const agent = bench.machine.agentOf(id);
      await rename(agent.options.socket, `${agent.options.socket}.away`);
      agent.cut();
      await assert.rejects(outcome, (error: unknown) => isErrorKind(error, "unavailable"));
      assert.deepEqual(
        bench.machine.judgedLosses.map(({ isTold }) => isTold),
        [true, true],
      );
    });

    it("goes on with its agent that answers later, at which an attachment waits", async () => {
      bench.machine.awayAfterLaunch = 2;
      const { call, outcome, agent } = await awaitingAttachment();
      assert.deepEqual([bench.machine.judgedLosses.length, agent.starts[0]?.awaitAttachIds.length], [2, 1]);
      call.abort(callerLost);
      await clock.advance(repeatedWithinMs);
      await assert.rejects(outcome, undone);
    });

    it("is undone where the agent still waits for the attachment of a frontend that has ended", async () => {
      const { id, call, outcome, agent } = await awaitingAttachment();
      call.abort(callerLost);
      await clock.advance(repeatedWithinMs);
      await assert.rejects(outcome, undone);
      assert.equal(agent.pid, 0);
      assert.deepEqual(inState(id)(), [ContainerStatus.CREATED, 128]);
      await untilTrue(() => bench.machine.workloads.get(id)?.agent === undefined);
      const [first] = agent.starts;
      assert.ok(Number(first?.awaitAttachTimeoutMs) > repeatedWithinMs, "its agent waits longer");
    });

    it("gives way to another start while the agent waits for such an attachment", async () => {
      const { id, call, outcome, agent } = await awaitingAttachment();
      call.abort(callerLost);
      await bench.containers.startContainer({ container: id, clientToken: "second" });
      await assert.rejects(outcome, undone);
      assert.deepEqual([agent.pid, statusOf(id), startsOf(id)], [0, ContainerStatus.RUNNING, 1]);
    });

    it("stays begun where its agent has begun the process before the call is given up", async () => {
      const answers = Promise.withResolvers<void>();
      bench.machine.startAnswers = answers.promise;
      const id = await bench.createScript("exec sleep 1000");
      const { call, outcome } = callFor(id);
      await untilTrue(() => (bench.machine.workloads.get(id)?.agent?.pid ?? 0) !== 0);
      call.abort(callerLost);
      await clock.advance(repeatedWithinMs);
      await outcome;
      answers.resolve();
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
    });

    it("goes on where only the frontend has ended and a restart policy wants it", async () => {
      const { id, call, outcome } = await called({ hostConfig: { restartPolicy: { name: "on-failure" } } });
      call.abort(callerLost);
      bench.machine.busyLaunches?.resolve();
      await outcome;
      assert.equal(statusOf(id), ContainerStatus.RUNNING);
    });

    it("goes on where the frontend's connection was lost and it asks again", async () => {
      const { id, call, outcome } = await called();
      call.abort(callerLost);
      const repeated = bench.containers.startContainer({ container: id, clientToken: "first" });
      await bench.system.getCapabilities({}); // The calls of one client reach the backend in order.
      await clock.advance(repeatedWithinMs);
      bench.machine.busyLaunches?.resolve();
      await Promise.all([repeated, outcome]);
      assert.deepEqual([statusOf(id), startsOf(id)], [ContainerStatus.RUNNING, 1]);
    });

    it("goes on where it is a restart's that was asked for again before it began", async () => {
      const id = await bench.runUntilTerm("sleep 0.5; exit 0");
      const options = { signal: "", timeoutSeconds: 30, clientToken: "again" };
      const restart = (call: AbortSignal) => restartContainer(bench.engine.context, id, options, call);
      const call = new AbortController();
      const outcome = restart(call.signal);
      outcome.catch(() => undefined);
      await untilTrue(() => recordOf(id)?.stoppedByUser === true);
      call.abort(callerLost);
      const repeated = restart(new AbortController().signal);
      await untilTrue(() => recordOf(id)?.generation === 2n);
      await clock.advance(repeatedWithinMs);
      await Promise.all([repeated, outcome]);
      assert.deepEqual([statusOf(id), recordOf(id)?.generation], [ContainerStatus.RUNNING, 2n]);
    });

    it("goes on, also with another backend, where its client merely leaves", async () => {
      const { id, call, outcome } = await called();
      call.abort(new Error("the client has left"));
      await untilTrue(() => recordOf(id)?.startAwaited === false);
      bench.machine.busyLaunches?.resolve();
      await outcome;
      assert.equal(statusOf(id), ContainerStatus.RUNNING);
    });
  });
}
