/** Clients that are not the docker CLI, each unmodified. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { load } from "@grpc/proto-loader";
import Docker from "dockerode";
import { backendUnderTest } from "../support/backend-under-test.ts";
import { checkout } from "../support/daemon.ts";
import { runGoTests } from "../support/programs.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();

describe("Docker's own Go client", () => {
  test("lives through the life of containers", async () => {
    const result = await runGoTests("sdk", { ...daemon.clientEnv, TEST_IMAGE: "busybox" });
    assert.equal(result.code, 0, `${result.text}\n${result.errorText}`);
    assert.equal(result.text.match(/^--- PASS/gm)?.length, 7, result.text);
  });
});

describe("dockerode", () => {
  const client = () => new Docker({ socketPath: daemon.socket });

  test("runs a container and gets its output and exit code", async () => {
    const out = new PassThrough();
    const err = new PassThrough();
    const [result] = (await client().run(
      "busybox",
      ["sh", "-c", "echo out; echo err >&2; exit 5"],
      [out, err],
      {
        Tty: false,
      },
    )) as [{ StatusCode: number }];
    assert.equal(result.StatusCode, 5);
    // The wait is answered on another connection than the output.
    assert.deepEqual(await Promise.all([text(out), text(err)]), ["out\n", "err\n"]);
  });

  test("executes, copies, inspects, stops and removes", async () => {
    const container = await client().createContainer({ Image: "busybox", Cmd: ["sleep", "600"] });
    await container.start();
    const exec = await container.exec({ Cmd: ["cat"], AttachStdin: true, AttachStdout: true });
    const stream = await exec.start({ hijack: true, stdin: true });
    const out = new PassThrough();
    container.modem.demuxStream(stream, out, out);
    stream.write("through dockerode");
    stream.end();
    await new Promise((resolve) => stream.once("end", resolve));
    assert.equal(String(out.read()), "through dockerode");
    assert.equal((await exec.inspect()).ExitCode, 0);
    const archive = await container.getArchive({ path: "/etc/os-release" });
    let bytes = 0;
    for await (const chunk of archive) {
      bytes += (chunk as Buffer).length;
    }
    assert.ok(bytes >= 1024);
    await container.stop({ t: 0 });
    // As process 1 it ignores SIGTERM; where an agent is process 1, it does not.
    assert.equal((await container.inspect()).State.ExitCode, backendUnderTest() === "local" ? 137 : 143);
    await container.remove();
    await assert.rejects(container.inspect(), { statusCode: 404 });
  });
});

interface Call {
  on(event: string, listener: (value: never) => void): void;
  write(message: unknown): void;
  end(): void;
}

// biome-ignore lint/suspicious/noExplicitAny: grpc-js builds its clients at run time, without types
type AnyClient = any;

describe("a gRPC client that is not ours", () => {
  const options = { keepCase: true, longs: String, includeDirs: [join(checkout, "proto")] };

  async function clientOf(file: string, path: (root: AnyClient) => AnyClient): Promise<AnyClient> {
    const root = loadPackageDefinition(await load(file, options)) as AnyClient;
    const Service = path(root);
    return new Service(`unix:${daemon.backendSocket}`, credentials.createInsecure());
  }

  test("lists containers on the backend's socket", async () => {
    const id = await daemon.ok("create", "--name", "listed", "busybox");
    const client = await clientOf(
      "sockerless/backend/v1/container.proto",
      (root) => root.sockerless.backend.v1.ContainerService,
    );
    const answer = await new Promise<{ containers: { id: string; names: string[] }[] }>((resolve, reject) =>
      client.ListContainers({ all: true }, (error: Error | null, value: never) =>
        error === null ? resolve(value) : reject(error),
      ),
    );
    client.close();
    assert.deepEqual(
      answer.containers.filter((each) => each.id === id).map((each) => each.names),
      [["/listed"]],
    );
    await daemon.ok("rm", "listed");
  });

  test("runs an exec through the relay", async () => {
    const container = await daemon.ok("run", "-d", "busybox", "sleep", "600");
    const execs = await clientOf(
      "sockerless/backend/v1/exec.proto",
      (root) => root.sockerless.backend.v1.ExecService,
    );
    const unary = (method: string, request: unknown) =>
      new Promise<Record<string, unknown>>((resolve, reject) =>
        execs[method](request, (error: Error | null, value: never) =>
          error === null ? resolve(value) : reject(error),
        ),
      );
    const { id } = await unary("CreateExec", {
      container,
      config: { cmd: ["sh", "-c", "cat; exit 11"], attach_stdin: true, attach_stdout: true },
    });
    const { config, endpoint } = await unary("StartExec", {
      exec_id: id,
      access: { reach: "AGENT_REACH_RELAY" },
    });
    assert.ok((endpoint as { relay?: unknown }).relay, "a caller that reaches nothing else gets the relay");
    const agents = await clientOf(
      "sockerless/agent/v1/agent.proto",
      (root) => root.sockerless.agent.v1.AgentService,
    );
    const metadata = new Metadata();
    metadata.set("sockerless-container-id", container);
    const call = agents.Session(metadata) as Call;
    let output = "";
    const ended = new Promise<number>((resolve, reject) => {
      call.on("data", (message: { stdout?: { data: Buffer }; exit?: { code: number } }) => {
        output += message.stdout?.data.toString() ?? "";
        if (message.exit) {
          resolve(message.exit.code);
        }
      });
      call.on("error", reject);
    });
    call.write({
      open_exec: {
        exec_id: id,
        process: { args: (config as { cmd: string[] }).cmd },
        attach_stdin: true,
        attach_stdout: true,
      },
    });
    call.write({ stdin: { data: Buffer.from("over gRPC") } });
    call.write({ close_stdin: {} });
    assert.equal(await ended, 11);
    assert.equal(output, "over gRPC");
    call.end();
    assert.equal((await unary("AwaitExec", { exec_id: id }))["exit_code"], 11);
    execs.close();
    agents.close();
    await daemon.ok("rm", "-f", container);
  });
});
