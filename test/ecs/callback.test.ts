/** Tasks in subnets that let nothing in: their agents call the backend (`ecs.agent_mode: callback`). */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import type { Aws } from "../simulators/aws/aws.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { freePort } from "../support/free-port.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { untilTrue } from "../support/until.ts";

/** A group whose members reach one another and are reached by nobody else. */
function closedGroup({ services, account }: Aws): string {
  const { groups } = services.network;
  const { groupId } = groups.create("closed", "nobody comes in", {}, account.vpcId);
  const everything = { protocol: "-1", fromPort: -1, toPort: -1 } as const;
  groups.authorize(groupId, [{ groupId, direction: "ingress", ...everything, peer: { groupId } }], {});
  return groupId;
}

describe("tasks whose agents call the backend", () => {
  let under: EcsDaemon;
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "skl-callback-"));
    under = await EcsDaemon.start({
      leastPrivilege: true,
      ecs: async (aws) => {
        const port = await freePort();
        const host = aws.services.network.subnets()[0]?.routerAddress ?? "";
        return {
          agent_mode: "callback",
          callback_url: `wss://${host}:${port}/sockerless`,
          security_groups: [closedGroup(aws)],
          agent_ingress: [],
          linger: "5s",
          drain_timeout: "2s",
        };
      },
    });
    await under.daemon.ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    await under?.stop();
    await rm(directory, { recursive: true });
  });

  it("run, and have their streams", async () => {
    const { daemon } = under;
    const ran = await daemon.docker("run", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7");
    assert.deepEqual([ran.text, ran.errorText, ran.code], ["out", "err", 7]);
    await daemon.ok("run", "--detach", "--name", "web", "busybox", "sh", "-c", "echo begun; exec sleep 1000");
    const executed = await daemon.docker("exec", "web", "sh", "-c", "echo hello; exit 3");
    assert.deepEqual([executed.text, executed.code], ["hello", 3]);
    await untilTrue(async () => (await daemon.ok("logs", "web")) === "begun");
    const file = join(directory, "there");
    await writeFile(file, Buffer.alloc(3_000_000, "abc"));
    await daemon.ok("cp", file, "web:/tmp/there");
    await daemon.ok("cp", "web:/tmp/there", join(directory, "back"));
    assert.ok((await readFile(file)).equals(await readFile(join(directory, "back"))));
    await daemon.ok("rm", "--force", "web");
    const input = Buffer.alloc(2_000_000, "stdin");
    const echoed = await daemon.dockerWith({ input }, "run", "--rm", "--interactive", "busybox", "wc", "-c");
    assert.equal(echoed.text, String(input.length));
  });

  it("are reached by published ports, and reach one another by name", async () => {
    const { daemon } = under;
    await daemon.ok("network", "create", "net");
    const serve = "echo hi > /tmp/index.html && exec httpd -f -h /tmp -p 8080";
    await daemon.ok(
      ...["run", "--detach", "--name", "site", "--network", "net", "--publish", "127.0.0.1::8080"],
      ...["busybox", "sh", "-c", serve],
    );
    const address = await daemon.ok("port", "site", "8080");
    const get = (): Promise<string> => fetch(`http://${address}`).then((answer) => answer.text(), String);
    await untilTrue(async () => (await get()) === "hi\n");
    const asked = ["busybox", "wget", "-qO-", "http://site:8080"];
    assert.equal(await daemon.ok("run", "--rm", "--network", "net", ...asked), "hi");
    const shared = await daemon.docker("run", "--network", "container:site", ...asked);
    assert.match(shared.errorText, /--network container:NAME with ecs.agent_mode: callback/);
    await daemon.ok("rm", "--force", "site");
  });

  it("keep the logs of all runs, each of which had an agent of its own", async () => {
    const { daemon, aws } = under;
    await daemon.ok("run", "--name", "twice", "busybox", "sh", "-c", "echo run");
    await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
    await daemon.ok("start", "--attach", "twice");
    await untilTrue(() => aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED"));
    assert.equal(await daemon.ok("logs", "twice"), "run\nrun");
  });

  it("are found again by a backend that was away", async () => {
    const { daemon } = under;
    await daemon.ok(
      "run",
      "--detach",
      "--name",
      "stays",
      "busybox",
      "sh",
      "-c",
      "trap 'exit 9' TERM; while :; do sleep 0.1; done",
    );
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await daemon.ok("exec", "stays", "echo", "again"), "again");
    await daemon.ok("stop", "stays");
    assert.equal(await daemon.ok("wait", "stays"), "9");
  });

  it("are refused without what they prove themselves by", async () => {
    await assert.rejects(
      EcsDaemon.start({
        ecs: { agent_mode: "callback", callback_url: "https://127.0.0.1:1", task_role_arn: undefined },
      }),
      /agent_mode: callback needs ecs.task_role_arn/,
    );
    await assert.rejects(
      EcsDaemon.start({ ecs: { agent_mode: "callback" } }),
      /agent_mode: callback needs ecs.callback_url/,
    );
  });
});
