/** Starts that AWS fails before the command has begun: what is asked again, what is not, and what is told of it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { StartFailure } from "../simulators/aws/services/ecs/start-failures.ts";
import type { Fault } from "../simulators/common/faults.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { inSoak, sampled } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";

/** A trouble as the simulated AWS has it: a call that is refused, or a task that ends before it runs. */
type Played =
  | { readonly call: NonNullable<Fault["error"]>; readonly times: number }
  | { readonly end: Omit<StartFailure, "where"> };

const refused = (code: string, message: string, times = 1): Played => ({
  call: { code, message, status: 400 },
  times,
});
const ended = (kind: StartFailure["kind"], reason?: string, stopCode?: StartFailure["stopCode"]): Played => ({
  end: { kind, ...(reason !== undefined && { reason }), ...(stopCode !== undefined && { stopCode }) },
});

const passing: readonly (readonly [what: string, Played])[] = [
  ["there is no capacity", ended("capacity")],
  [
    "there is no capacity, as an exception",
    refused("ClientException", "Capacity is unavailable at this time. Please try again later"),
  ],
  ["ECS fails", ended("interface", "InternalError: failed to create container model")],
  ["the host fails", ended("pull", "Task stopped because the host it ran on failed", "TerminationNotice")],
  ["Spot takes the task back", ended("pull", "Your Spot Task was interrupted.", "SpotInterruption")],
  ["there is no disk in time", ended("interface", "Timeout waiting for EphemeralStorage provisioning")],
  ["a file system is out of reach", ended("mount")],
  [
    "the registry is asked too much",
    ended("pull", "CannotPullContainerError: toomanyrequests: You have reached your pull rate limit."),
  ],
  [
    "the registry is down",
    ended("pull", "CannotPullContainerError: unexpected status from HEAD request: 503 Service Unavailable"),
  ],
  [
    "EC2 is asked too much",
    ended(
      "interface",
      "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': Rate exceeded",
    ),
  ],
  [
    "a security group is new",
    refused("InvalidParameterException", "The security group 'sg-1' does not exist"),
  ],
  // Refused once, a call is made again with the credentials that are there by then.
  ["a token is old", refused("ExpiredTokenException", "The security token has expired", 2)],
];

const lasting: readonly (readonly [what: string, Played])[] = [
  [
    "an unknown manifest",
    ended("pull", "CannotPullContainerError: manifest unknown: Requested image not found"),
  ],
  [
    "a secret that may not be read",
    ended(
      "logs",
      "ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: User is not authorized to perform: secretsmanager:GetSecretValue",
    ),
  ],
  ["a log group that is not there", ended("logs", "ResourceInitializationError: ResourceNotFoundException")],
  ["somebody in ECS who stops it", ended("pull", "by hand", "UserInitiated")],
  ["an agent that ends", ended("pull", "Essential container in task exited", "EssentialContainerExited")],
  ["a cluster that is not there", refused("ClusterNotFoundException", "Cluster not found.", 2)],
  ["an invalid request", refused("InvalidParameterException", "No Fargate configuration exists", 2)],
];

/** Passing troubles that `npm test` tries: an answer to the call, an exception, an end of the task. */
const sample = [
  "there is no capacity",
  "there is no capacity, as an exception",
  "a file system is out of reach",
];

describe("a start that AWS fails", { concurrency: 4 }, () => {
  const ecs = duringTests(() => EcsDaemon.start());

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  const create = (...command: string[]): Promise<string> => ok("create", "busybox", ...command);

  /** Requests for tasks of a container. */
  const requestsFor = (id: string) =>
    ecs.aws.calls
      .all("ecs.RunTask")
      .map(({ input }) => input as { readonly clientToken: string })
      .filter((input) => JSON.stringify(input).includes(id));

  const tasksOf = (id: string) =>
    ecs.aws.ecs.tasks.filter(({ state }) => JSON.stringify(state.overrides).includes(id));

  /** Has a container's start fail. @returns lets its second try go on, which waits until then */
  const play = (id: string, played: Played): (() => void) => {
    const second = Promise.withResolvers<void>();
    const on = "ecs.RunTask";
    const concerns = (input: unknown): boolean => JSON.stringify(input).includes(id);
    let others = 0;
    if ("end" in played) {
      others = 1; // The call of the first try.
      ecs.aws.ecs.failStarts({ ...played.end, where: ({ overrides }) => concerns(overrides) });
    } else {
      ecs.aws.faults.add({ on, where: concerns, error: played.call, times: played.times });
    }
    ecs.aws.faults.add({ on, where: (input) => concerns(input) && others-- <= 0, hold: second.promise });
    return second.resolve;
  };

  for (const [what, played] of passing) {
    it(
      `asks again, with another token, where ${what}, and runs once`,
      sampled(sample.includes(what)),
      async () => {
        const id = await create("echo", "ran");
        const tryAgain = play(id, played);
        const start = ok("start", "--attach", id);
        const wait = "waits to be started: try 2 of 3 in 2 s: ";
        const inspect = (format: string): Promise<string> => ok("inspect", "--format", format, id);
        await untilTrue(async () => (await inspect("{{.State.Error}}")).startsWith(wait));
        assert.match(await ok("ps", "--all", "--format", "{{.Status}}"), /Created \(waits: /);
        tryAgain();
        assert.equal(await start, "ran");
        assert.equal(await inspect("{{.State.ExitCode}} {{.State.Error}}"), "0 ");
        const tokens = requestsFor(id).map(({ clientToken }) => clientToken);
        assert.equal(new Set(tokens).size, 2, `${tokens.length} requests`);
        assert.ok(ecs.daemon.output.includes(wait));
        const args = ["events", "--since", "0", "--until", "0s", "--filter", `container=${id}`];
        assert.match(await ok(...args, "--filter", "event=start_waits"), /try 2 of 3/);
        assert.match(await inspect("{{json .StartPhases}}"), /"Name":"wait"/);
        await ok("rm", id);
        await untilTrue(() => tasksOf(id).every(({ state }) => state.lastStatus === "STOPPED"));
      },
    );
  }

  for (const [what, played] of lasting) {
    it(`says at once so where it is ${what}`, async () => {
      const id = await create("true");
      play(id, played);
      const { code, errorText } = await ecs.daemon.docker("start", id);
      assert.equal(code, 1);
      const { message = "" } = "end" in played ? { message: played.end.reason } : played.call;
      assert.ok(errorText.includes(message), errorText);
      assert.equal(requestsFor(id).length, 1);
      await ok("rm", id);
    });
  }

  it("registers again what others register at that moment", async () => {
    const where = (input: unknown): boolean => JSON.stringify(input).includes("vol-concurrent");
    const message = "Too many concurrent attempts to create a new revision of the specified family.";
    const on = "ecs.RegisterTaskDefinition";
    ecs.aws.faults.add({ on, where, error: { code: "ClientException", message, status: 400 } });
    assert.equal(await ok("run", "--rm", "--volume", "concurrent:/kept", "busybox", "echo", "ran"), "ran");
    assert.equal(ecs.aws.calls.all(on).filter(({ input }) => where(input)).length, 2);
    await ok("volume", "rm", "concurrent");
  });

  it("is asked again as long as a right may be new that it needs, and fails with AWS's words", async () => {
    const message = "is not authorized to perform: ecs:RunTask";
    const [new_, missing] = [await create("echo", "ran"), await create("true")];
    play(new_, refused("AccessDeniedException", message))();
    play(missing, refused("AccessDeniedException", message, Infinity))();
    const [ran, { code, errorText }] = await Promise.all([
      ok("start", "--attach", new_),
      ecs.daemon.docker("start", missing),
    ]);
    assert.equal(ran, "ran");
    assert.equal(code, 1);
    assert.ok(errorText.includes(message), errorText);
    await ok("rm", new_, missing);
  });

  it("is not tried again once something of it has run", async () => {
    const { code } = await ecs.daemon.docker("run", "--name", "ran", "busybox", "false");
    assert.equal(code, 1);
    assert.equal(requestsFor(await ok("inspect", "--format", "{{.Id}}", "ran")).length, 1);
    await ok("rm", "ran");
  });

  it("ends with AWS's words when it has been tried enough", async () => {
    const id = await create("true");
    play(id, { end: { kind: "pull", times: 3 } })();
    const { code, errorText } = await ecs.daemon.docker("start", id);
    assert.equal(code, 1);
    assert.match(
      errorText,
      /failed to start a task for the container: CannotPullContainerError: .*i\/o timeout/,
    );
    assert.equal(requestsFor(id).length, 3);
    await ok("rm", id);
  });

  it("is given up when the container is removed while it waits", async () => {
    const id = await create("sleep", "600");
    play(id, { end: { kind: "capacity", times: 10 } });
    const start = ecs.daemon.docker("start", id);
    await until(
      async () => /waits/.test(await ok("inspect", "--format", "{{.State.Error}}", id)) || undefined,
    );
    await ok("rm", "--force", id);
    assert.match((await start).errorText, /was given up while it waited/);
  });

  it("tells the phases of the one that has succeeded", async () => {
    const id = await ok("run", "--detach", "busybox", "sleep", "600");
    const names = async (): Promise<readonly string[]> =>
      (
        JSON.parse(await ok("inspect", "--format", "{{json .StartPhases}}", id)) as readonly {
          readonly Name: string;
        }[]
      ).map(({ Name }) => Name);
    const cloud = ["definition", "request", "provisioning", "pull", "containers"];
    const expected = ["accepted", ...cloud, "agent", "process"];
    await untilTrue(async () => new Set(await names()).symmetricDifference(new Set(expected)).size === 0);
    const line = /a container has started in [\d.]+ s: .*provisioning [\d.]+ s/;
    await untilTrue(() => line.test(ecs.daemon.output));
    const args = ["events", "--since", "0", "--until", "0s", "--filter", `container=${id}`];
    const over = [...cloud, "agent"].map((name) => `start_phase: ${name}`);
    await untilTrue(async () => {
      const told = await ok(...args, "--filter", "event=start_phase");
      return over.every((event) => told.includes(event));
    });
    await ok("rm", "--force", id);
  });
});

describe("a start for which Spot has no capacity", inSoak, () => {
  it("runs on demand where that is wanted", async () => {
    await using ecs = await EcsDaemon.start({
      ecs: { capacity_provider: "FARGATE_SPOT", spot_fallback: true },
    });
    ecs.aws.ecs.failStarts({ kind: "capacity" });
    assert.equal(await ecs.daemon.ok("run", "--rm", "busybox", "echo", "on demand"), "on demand");
    const [spot, demand] = ecs.aws.calls.all("ecs.RunTask").map(({ input }) => input as object);
    assert.ok(spot !== undefined && "capacityProviderStrategy" in spot);
    assert.ok(demand !== undefined && "launchType" in demand && !("capacityProviderStrategy" in demand));
  });
});
