/** Starts that AWS fails for reasons that pass, and for reasons that last: what is asked again, and what is told of it. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { startTroubles } from "../../src/backends/ecs/tasks/start-troubles.ts";
import type { StartFailure } from "../simulators/aws/services/ecs/start-failures.ts";
import type { Fault } from "../simulators/common/faults.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { until, untilTrue } from "../support/until.ts";

/** A trouble as the simulated AWS has it: a call that is refused, or a task that ends before it runs. */
type Played =
  | { readonly call: NonNullable<Fault["error"]>; readonly times: number }
  | { readonly end: Omit<StartFailure, "where"> };

const refused = (code: string, message: string, times = 1): Played => ({
  call: { code, message, status: 400 },
  times,
});

/** Rows that {@link file://./quota.test.ts} and {@link file://./mishaps.test.ts} show. */
const elsewhere = ["vcpu-quota", "no-interface"];

const passing: readonly (readonly [row: string, what: string, Played])[] = [
  ["capacity", "capacity as a failure", { end: { kind: "capacity" } }],
  [
    "capacity",
    "capacity as an exception",
    refused("ClientException", "Capacity is unavailable at this time. Please try again later"),
  ],
  [
    "capacity",
    "capacity as a task's end",
    { end: { kind: "interface", reason: "Capacity is unavailable at this time. Please try again later" } },
  ],
  ["interface-timeout", "a network interface", { end: { kind: "interface" } }],
  ["efs-timeout", "a file system", { end: { kind: "mount" } }],
  ["pull-timeout", "a registry", { end: { kind: "pull" } }],
  ["log-driver", "a log", { end: { kind: "logs" } }],
  [
    "new-security-group",
    "a security group",
    refused("InvalidParameterException", "The security group 'sg-1' does not exist"),
  ],
  [
    "service-linked-role",
    "the service-linked role",
    refused("InvalidParameterException", "Unable to assume the service linked role."),
  ],
  ["access-denied", "a permission", refused("AccessDeniedException", "is not authorized")],
  // Refused once, a call is made again with the credentials that are there by then.
  ["expired-token", "a token", refused("ExpiredTokenException", "The security token has expired", 2)],
];

const lasting: readonly (readonly [what: string, StartFailure])[] = [
  [
    "an unknown manifest",
    { kind: "pull", reason: "CannotPullContainerError: manifest unknown: Requested image not found" },
  ],
  [
    "a secret that may not be read",
    {
      kind: "logs",
      reason:
        "ResourceInitializationError: unable to pull secrets or registry auth: AccessDeniedException: User is not authorized to perform: secretsmanager:GetSecretValue",
    },
  ],
];

describe("a start that AWS fails", { concurrency: 4 }, () => {
  let ecs: EcsDaemon;

  before(async () => {
    ecs = await EcsDaemon.start();
    await ecs.daemon.ok("load", "--input", await busyboxArchiveFile());
  });
  after(() => ecs.stop());

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  const create = (...command: string[]): Promise<string> => ok("create", "busybox", ...command);

  /** Requests for tasks of a container. */
  const requestsFor = (id: string) =>
    ecs.aws.calls
      .all("ecs.RunTask")
      .map(({ input }) => input as { readonly clientToken: string })
      .filter((input) => JSON.stringify(input).includes(id));

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

  it("has a row for each reason that passes", () => {
    const shown = new Set([...passing.map(([row]) => row), ...elsewhere]);
    assert.deepEqual(shown, new Set(startTroubles.map(({ name }) => name)));
  });

  for (const [row, what, played] of passing) {
    it(`asks again, with another token, where ${what} is not to be had for a moment`, async () => {
      const id = await create("true");
      const tryAgain = play(id, played);
      const start = ok("start", "--attach", id);
      const wait = `waits to be started: ${startTroubles.find(({ name }) => name === row)?.told}; try 2 of`;
      const inspect = (format: string): Promise<string> => ok("inspect", "--format", format, id);
      await untilTrue(async () => (await inspect("{{.State.Error}}")).startsWith(wait));
      assert.match(await ok("ps", "--all", "--format", "{{.Status}}"), /Created \(waits: /);
      tryAgain();
      await start;
      assert.equal(await inspect("{{.State.ExitCode}} {{.State.Error}}"), "0 ");
      const tokens = requestsFor(id).map(({ clientToken }) => clientToken);
      assert.equal(new Set(tokens).size, 2, `${tokens.length} requests`);
      assert.ok(ecs.daemon.output.includes(wait));
      const args = ["events", "--since", "0", "--until", "0s", "--filter", `container=${id}`];
      assert.match(await ok(...args, "--filter", "event=start_waits"), /try 2 of/);
      await ok("rm", id);
    });
  }

  for (const [what, failure] of lasting) {
    it(`says at once so where it is ${what}`, async () => {
      const id = await create("true");
      play(id, { end: failure });
      const { code, errorText } = await ecs.daemon.docker("start", id);
      assert.equal(code, 1);
      assert.ok(errorText.includes(failure.reason ?? ""), errorText);
      assert.equal(requestsFor(id).length, 1);
      await ok("rm", id);
    });
  }

  it("is not tried again once something of it has run", async () => {
    const { code } = await ecs.daemon.docker("run", "--name", "ran", "busybox", "false");
    assert.equal(code, 1);
    assert.equal(requestsFor(await ok("inspect", "--format", "{{.Id}}", "ran")).length, 1);
    await ok("rm", "ran");
  });

  it("ends with AWS's words when it has been tried enough", async () => {
    const id = await create("true");
    play(id, { end: { kind: "pull", times: 3 } });
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

describe("a start for which Spot has no capacity", () => {
  it("runs on demand where that is wanted", async () => {
    await using ecs = await EcsDaemon.start({
      ecs: { capacity_provider: "FARGATE_SPOT", spot_fallback: true },
    });
    await ecs.daemon.ok("load", "--input", await busyboxArchiveFile());
    ecs.aws.ecs.failStarts({ kind: "capacity" });
    assert.equal(await ecs.daemon.ok("run", "--rm", "busybox", "echo", "on demand"), "on demand");
    const [spot, demand] = ecs.aws.calls.all("ecs.RunTask").map(({ input }) => input as object);
    assert.ok(spot !== undefined && "capacityProviderStrategy" in spot);
    assert.ok(demand !== undefined && "launchType" in demand && !("capacityProviderStrategy" in demand));
  });
});
