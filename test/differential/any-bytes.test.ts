/** Names, arguments, variables, labels and output that are no UTF-8, beside the dockerd of the release that is advertised. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { mobyPrograms } from "../conformance/moby.ts";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { type ApiResponse, callApi } from "../support/call-api.ts";
import { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";

interface Engine {
  readonly socket: string;
  ok(...args: string[]): Promise<string>;
}

/** Makes files whose names are no UTF-8, says such lines, and goes on as a process with such an argument. */
const script = String.raw`mkdir /dir && echo x > "$(printf '/dir/caf\351')" && mkdir "$(printf '/dir/\377\376')"
ln -s "$(printf '/dir/caf\351')" /dir/link && printf 'out\351\n' && printf 'err\377\n' >&2
exec sh -c 'sleep 1000; :' "$(printf '\351')"`;

/** Lists them byte by byte; `ls` would write question marks. */
const listing = String.raw`printf '%s\n' /dir/* | od -An -tx1`;

const name = "bytes";
/** JSON whose texts are given as they are sent, a character for each byte. */
const sent = (json: string): Buffer => Buffer.from(json, "latin1");
const json = { headers: { "Content-Type": "application/json" } };

async function call(
  { socket }: Engine,
  method: string,
  path: string,
  body?: Uint8Array,
): Promise<ApiResponse> {
  return await callApi(socket, method, path, { ...json, ...(body === undefined ? {} : { body }) });
}

/** Names in a tar, each byte that is no ASCII as a number. */
async function namesIn(archive: Uint8Array): Promise<string[]> {
  const { text, code, errorText } = await runCommand("tar", ["--list", "--quoting-style=escape"], {
    input: archive,
  });
  assert.equal(code, 0, errorText);
  return text
    .split("\n")
    .filter((line) => line.includes("dir/"))
    .toSorted();
}

/** Questions to both; each answers what a client sees. */
const questions: Readonly<Record<string, (engine: Engine) => Promise<unknown>>> = {
  "a listing of changes": async (engine) => {
    const changes = (await call(engine, "GET", `/containers/${name}/changes`)).json() as { Path: string }[];
    return new Set(changes.map(({ Path }) => Path));
  },
  "what a link leads to": async (engine) => {
    const { headers } = await call(engine, "HEAD", `/containers/${name}/archive?path=/dir/link`);
    const told = Buffer.from(String(headers["x-docker-container-path-stat"]), "base64");
    const { name: linkName, linkTarget } = JSON.parse(told.toString()) as Record<string, string>;
    return { linkName, linkTarget };
  },
  "an archive of a directory": async (engine) =>
    await namesIn((await call(engine, "GET", `/containers/${name}/archive?path=/dir`)).bytes),
  "an export": async (engine) =>
    await namesIn((await call(engine, "GET", `/containers/${name}/export`)).bytes),
  "a log of the driver `local`": async (engine) => {
    const ofStream = async (stream: string): Promise<string> =>
      (await call(engine, "GET", `/containers/${name}/logs?${stream}=1`)).bytes.toString("latin1");
    return await Promise.all(["stdout", "stderr"].map(ofStream));
  },
  "an argument and a variable of an exec": async (engine) => {
    const body = sent(
      '{"Cmd":["sh","-c","printf %s \\"$0\\" \\"$V\\" | od -An -tx1","a\xe9"],"Env":["V=\xff"],"AttachStdout":true}',
    );
    const { Id } = (await call(engine, "POST", `/containers/${name}/exec`, body)).json() as { Id: string };
    const { bytes } = await call(engine, "POST", `/exec/${Id}/start`, sent('{"Tty":true}'));
    return bytes.toString("latin1");
  },
  "a container's labels, variables and arguments": async (engine) => {
    const body = sent('{"Image":"busybox","Cmd":["echo","\xff"],"Env":["A=\xe9"],"Labels":{"l\xe9":"\xff"}}');
    assert.equal((await call(engine, "POST", "/containers/create?name=labelled", body)).status, 201);
    const { Config, Args } = (await call(engine, "GET", "/containers/labelled/json")).json() as {
      readonly Config: { readonly Env: string[]; readonly Labels: object };
      readonly Args: readonly string[];
    };
    return { env: Config.Env.filter((each) => each.startsWith("A=")), labels: Config.Labels, args: Args };
  },
  "a file of an archive that is put": async (engine) => {
    const archive = await tarOf([{ name: "put@", content: "" }]);
    // Another byte in the name's place, with which the header's checksum grows.
    archive[archive.indexOf("@")] = 0xe9;
    const checksum = { at: 148, length: 6 };
    const sum = Number.parseInt(archive.toString("latin1", checksum.at, checksum.at + checksum.length), 8);
    const grown = (sum + 0xe9 - 0x40).toString(8).padStart(checksum.length, "0");
    archive.write(grown, checksum.at, "latin1");
    const { status } = await callApi(engine.socket, "PUT", `/containers/${name}/archive?path=/dir`, {
      headers: { "Content-Type": "application/x-tar" },
      body: archive,
    });
    return { status, listed: await engine.ok("exec", name, "sh", "-c", listing) };
  },
  "the processes": async (engine) => {
    const { status, text } = await call(engine, "GET", `/containers/${name}/top`);
    return { status, isJson: Array.isArray((JSON.parse(text) as { Processes: unknown }).Processes) };
  },
  "an image of it": async (engine) => {
    const { status } = await call(engine, "POST", `/commit?container=${name}&repo=kept`);
    const listed = await engine.ok("run", "--rm", "--network=none", "kept", "sh", "-c", listing);
    return { status, listed };
  },
};

describe("bytes that are no UTF-8", () => {
  const engines = duringTests(async (resources): Promise<readonly Engine[]> => {
    const daemon = resources.use(await Daemon.startWithBusybox());
    const dockerd = resources.use(await Dockerd.startWithBusybox({ programs: await mobyPrograms() }));
    for (const engine of [daemon, dockerd]) {
      const options = ["--name", name, "--network=none", "--log-driver=local"];
      await engine.ok("run", "-d", ...options, "busybox", "sh", "-c", script);
      await until(async () => (await engine.ok("logs", name)).includes("out") || undefined);
    }
    return [daemon, dockerd];
  });

  for (const [what, ask] of Object.entries(questions)) {
    test(`${what} is as dockerd's`, async () => {
      const [ours, theirs] = await Promise.all(engines.map(ask));
      assert.deepEqual(ours, theirs);
    });
  }
});
