/**
 * Scene of what goes on in a machine when something dies: a container that prints and echoes on a published
 * port, the CLI that ran it, one that follows its log, an exec that streams, a connection to the port, and a
 * container that talks to the Docker API through the mounted socket.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { runCommand } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import { FollowingClient } from "../support/following-client.ts";
import { isAlive } from "../support/processes.ts";
import { until } from "../support/until.ts";

/** Prints numbered lines, without an end. */
const counter = "n=0; while :; do echo line $n; n=$((n + 1)); usleep 5000; done";

/** Prints numbered lines, echoes on port 7, and ends with 7 at SIGTERM. */
const printer = ["trap 'echo end; exit 7' TERM", "nc -ll -p 7 -e cat &", counter].join("\n");

/** Waits for the file and ends with the code. */
function gate(code: number): string {
  return `while [ ! -e /gate/open ]; do usleep 5000; done; echo passed; exit ${code}`;
}

const gateExit = 42;
const gatedExecExit = 9;
const printerExit = 7;
/** An exec ends so with its container. */
const killedExit = 137;

export class Scene {
  readonly daemon: Daemon;
  readonly #started: Date;
  readonly #directory: string;
  readonly #connection: Socket;
  #echoed = "";
  #gatedExec = "";
  #gatedPids: readonly number[] = [];
  readonly attached: FollowingClient;
  readonly following: FollowingClient;
  readonly exec: FollowingClient;
  readonly waiting: FollowingClient;
  readonly inside: FollowingClient;

  private constructor(
    daemon: Daemon,
    started: Date,
    directory: string,
    connection: Socket,
    attached: FollowingClient,
  ) {
    this.daemon = daemon;
    this.#started = started;
    this.#directory = directory;
    this.#connection = connection;
    connection.on("data", (chunk: Buffer) => {
      this.#echoed += chunk.toString();
    });
    connection.on("error", () => {}); // what is expected of it tells
    this.attached = attached;
    this.following = new FollowingClient(daemon, "logs", "--follow", "printer");
    this.exec = new FollowingClient(daemon, "exec", "printer", "sh", "-c", counter);
    this.waiting = new FollowingClient(daemon, "wait", "printer");
    this.inside = new FollowingClient(daemon, "exec", "inside", "docker", "logs", "--follow", "printer");
  }

  /** Sets everything up and waits until it is under way. */
  static async set(daemon: Daemon): Promise<Scene> {
    const started = new Date();
    const directory = await mkdtemp(join(daemon.directory, "gate-"));
    const cli = (await runCommand("sh", ["-c", "command -v docker"])).text;
    const attached = new FollowingClient(
      daemon,
      ...["run", "--name=printer", "--publish=127.0.0.1::7", "busybox", "sh", "-c", printer],
    );
    await attached.receives();
    await daemon.ok(
      ...["run", "--detach", "--name=gated", `--volume=${directory}:/gate`],
      ...["busybox", "sh", "-c", gate(gateExit)],
    );
    await daemon.ok(
      ...["run", "--detach", "--name=inside", "--volume=/var/run/docker.sock:/var/run/docker.sock"],
      ...[`--volume=${cli}:/bin/docker:ro`, `--volume=${directory}:/gate`, "busybox", "sleep", "1000000"],
    );
    const port = Number((await daemon.ok("port", "printer", "7")).split(":").at(-1));
    const connection = await connectToEcho(port);
    const scene = new Scene(daemon, started, directory, connection, attached);
    scene.#gatedExec = await scene.#startGatedExec();
    scene.#gatedPids = [
      Number(await daemon.ok("inspect", "--format={{.State.Pid}}", "gated")),
      (JSON.parse(await scene.#request("GET", `/exec/${scene.#gatedExec}/json`)) as { Pid: number }).Pid,
    ];
    assert.ok(scene.#gatedPids.every(isAlive));
    await Promise.all([
      scene.attached.receives(),
      scene.following.receives(),
      scene.exec.receives(),
      scene.inside.receives(),
      scene.assertConnected(),
    ]);
    return scene;
  }

  /** The connection to the published port is the same and still echoes. */
  async assertConnected(): Promise<void> {
    const expected = `${this.#echoed}ping ${this.#echoed.length}\n`;
    this.#connection.write(expected.slice(this.#echoed.length));
    await until(() => {
      assert.ok(!this.#connection.destroyed, "the connection to the published port lasts");
      return this.#echoed === expected || undefined;
    });
  }

  /** Every client that is connected, by what it does. */
  get clients(): Readonly<Record<string, FollowingClient>> {
    return {
      attach: this.attached,
      logs: this.following,
      exec: this.exec,
      wait: this.waiting,
      inside: this.inside,
    };
  }

  /** The connection to the published port has been cut. */
  async assertCut(): Promise<void> {
    await until(() => this.#connection.destroyed || undefined);
  }

  /** Lets the gated container and the gated exec end, and waits until they have. */
  async openGate(): Promise<void> {
    await writeFile(join(this.#directory, "open"), "");
    await until(() => !this.#gatedPids.some(isAlive) || undefined);
  }

  /**
   * Asserts that the clients of before have heard what was said: every line, once, from the first on.
   *
   * @param log the whole log of the printer
   * @param whole those that heard it to its end; the others were cut, in the middle of a line perhaps
   */
  assertHeard(log: string, whole: readonly string[]): void {
    for (const name of ["attach", "logs", "inside"]) {
      const heard = this.clients[name]?.stdout ?? "";
      if (whole.includes(name)) {
        assert.equal(heard, `${log}\n`, `${name} heard everything`);
      } else {
        assert.ok(`${log}\n`.startsWith(heard), `${name} heard what was said`);
      }
    }
    assertNumbered(this.exec.stdout.slice(0, this.exec.stdout.lastIndexOf("\n")), 0);
  }

  /** Everything is known and works: what goes on, and what ended while nobody watched. Answers the printer's log. */
  async assertWhole(logBefore: string): Promise<string> {
    const { daemon } = this;
    assert.deepEqual(
      (await daemon.ok("ps", "--format={{.Names}}")).split("\n").toSorted(),
      ["inside", "printer"],
      "what ran runs",
    );
    assert.equal(await daemon.ok("wait", "gated"), String(gateExit));
    assert.equal(await daemon.ok("logs", "gated"), "passed");
    assert.equal(await this.#exitOfGatedExec(), gatedExecExit);
    await this.assertConnected();

    const log = await daemon.ok("logs", "printer");
    assert.ok(log.startsWith(logBefore.trimEnd()), "the log begins as it did");
    assertNumbered(log, 0);
    const attached = new FollowingClient(daemon, "attach", "--sig-proxy=false", "printer");
    await attached.receives();
    assert.equal(await daemon.ok("exec", "printer", "echo", "exec works"), "exec works");
    assert.match(await daemon.ok("exec", "inside", "docker", "ps"), /printer/, "the mounted socket works");

    assert.equal(await daemon.ok("stop", "printer"), "printer");
    assert.equal(await attached.exitCode(), printerExit);
    assertNumbered(attached.stdout.replace(/end\n$/, "").replace(/^[^\n]*\n/, ""));
    assert.equal(await daemon.ok("inspect", "--format={{.State.ExitCode}}", "printer"), String(printerExit));
    const whole = await daemon.ok("logs", "printer");
    assert.ok(whole.startsWith(log.trimEnd()) && whole.endsWith("\nend"), "the log goes on to its end");
    assertNumbered(whole.replace(/\nend$/, ""), 0);
    await this.#assertEvents();
    return whole;
  }

  /** Sends whoever is still connected away, and removes the containers. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.destroy();
    await Promise.all(Object.values(this.clients).map((client) => client.leave()));
    // A failure here is ignored: it must not hide what the test has said is wrong with the daemon.
    await this.daemon.docker("rm", "--force", "--volumes", "printer", "gated", "inside");
    await rm(this.#directory, { recursive: true });
  }

  async #assertEvents(): Promise<void> {
    const events = await this.daemon.ok(
      ...["events", "--format={{.Actor.Attributes.name}} {{.Action}} {{.Actor.Attributes.exitCode}}"],
      ...[`--since=${this.#started.toISOString()}`, `--until=${new Date().toISOString()}`],
      ...["--filter=event=die", "--filter=event=start", "--filter=event=exec_die"],
    );
    const lines = events.split("\n");
    const count = (line: string): number => lines.filter((each) => each === line).length;
    assert.equal(count(`gated die ${gateExit}`), 1, events);
    assert.equal(count(`printer die ${printerExit}`), 1, events);
    assert.equal(count(`inside exec_die ${gatedExecExit}`), 1, events);
    for (const name of ["gated", "printer", "inside"]) {
      assert.equal(lines.filter((line) => line.startsWith(`${name} start`)).length, 1, events);
    }
  }

  async #startGatedExec(): Promise<string> {
    const created = await this.#request("POST", "/containers/inside/exec", {
      Cmd: ["sh", "-c", gate(gatedExecExit)],
    });
    const { Id } = JSON.parse(created) as { Id: string };
    await this.#request("POST", `/exec/${Id}/start`, { Detach: true });
    return Id;
  }

  async #exitOfGatedExec(): Promise<number> {
    return await until(async () => {
      const inspected = await this.#request("GET", `/exec/${this.#gatedExec}/json`);
      const { Running, ExitCode } = JSON.parse(inspected) as { Running: boolean; ExitCode: number };
      return Running ? undefined : ExitCode;
    });
  }

  async #request(method: string, path: string, body?: object): Promise<string> {
    const { text, code } = await runCommand("curl", [
      ...[
        "--silent",
        "--show-error",
        "--fail-with-body",
        "--request",
        method,
        "--unix-socket",
        this.daemon.socket,
      ],
      ...(body === undefined ? [] : ["--json", JSON.stringify(body)]),
      `http://docker${path}`,
    ]);
    assert.equal(code, 0, text);
    return text;
  }
}

/**
 * The clients that are told the printer's exit code hear it, whatever has died meanwhile.
 *
 * @param runCode of `docker run`: its own where it is told more than an exit code
 */
export async function assertToldExit(scene: Scene, code = printerExit, runCode = code): Promise<void> {
  assert.equal(await scene.attached.exitCode(), runCode, scene.attached.stderr);
  assert.equal(await scene.waiting.exitCode(), 0, scene.waiting.stderr);
  assert.equal(scene.waiting.stdout, `${code}\n`);
}

/** All clients that were there end as they do when nothing but the printer ends. */
export async function assertEnded(scene: Scene): Promise<void> {
  await assertToldExit(scene);
  for (const client of [scene.following, scene.inside]) {
    assert.equal(await client.exitCode(), 0, client.stderr);
  }
  assert.equal(await scene.exec.exitCode(), killedExit);
}

/** Clients that are told no exit code end with an error, and say why. */
export async function assertSentAway(scene: Scene): Promise<void> {
  for (const name of ["logs", "exec", "inside"]) {
    const client = scene.clients[name] ?? assert.fail(name);
    assert.notEqual(await client.exitCode(), 0, `${name} does not end well`);
    // The CLI takes it that a daemon which cannot be asked for the exec's code has died, and says nothing.
    assert.ok(client.stderr !== "" || name === "exec" || name === "inside", `${name} says why`);
  }
}

/** Clients of streams hear on: a frontend's end is nothing to them. */
export async function assertHearOn(scene: Scene): Promise<void> {
  for (const client of [scene.following, scene.exec, scene.attached, scene.inside]) {
    await client.receives(client.stdout.length);
  }
}

/** Connects once somebody listens in the container: until then the connection ends at once. */
function connectToEcho(port: number): Promise<Socket> {
  return until(async () => {
    const connection = connect(port, "127.0.0.1");
    try {
      connection.write("ready\n");
      await once(connection, "data");
      return connection;
    } catch {
      return undefined;
    }
  });
}

/** Lines that count up by one, from a number if it is given: nothing is missing, doubled or torn. */
export function assertNumbered(log: string, from?: number): void {
  const lines = log.trimEnd().split("\n");
  const first = from ?? Number(/^line (\d+)$/.exec(lines[0] ?? "")?.[1]);
  const wrong = lines.findIndex((line, index) => line !== `line ${first + index}`);
  assert.equal(
    wrong,
    -1,
    `line ${wrong} is ${JSON.stringify(lines[wrong])}, after ${JSON.stringify(lines[wrong - 1])}`,
  );
}
