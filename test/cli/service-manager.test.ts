/** Checks the messages and sockets between `sockerless serve` and a service manager: sd_notify(3), sd_listen_fds(3). */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { childrenOf, commandLineOf, isAlive, processOf } from "../support/processes.ts";
import { untilTrue } from "../support/until.ts";

/** Prints each message of a datagram socket as a line of JSON: Node has no such sockets. */
const printMessages = `
import json, socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    print(json.dumps(manager.recv(4096).decode()), flush=True)
`;

/** Listens on a socket, and becomes the program that serves it. */
const activate = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
`;
import { scratchDirectory } from "../support/scratch.ts";

describe("a service of a service manager", () => {
  const messages: string[] = [];
  const count = (message: string): number => messages.filter((each) => each === message).length;
  const directory = scratchDirectory();
  let socket: string;
  let manager: ChildProcess;
  let daemon: Daemon;

  before(async () => {
    const notify = join(directory, "notify");
    socket = join(directory, "activated.sock");
    manager = spawn("python3", ["-c", printMessages, notify], { stdio: ["ignore", "pipe", "inherit"] });
    createInterface({ input: manager.stdout ?? assert.fail() }).on("line", (line) => {
      messages.push(JSON.parse(line) as string);
    });
    await untilTrue(() => count("bound") === 1);
    daemon = await Daemon.start({
      within: ["python3", "-c", activate, socket],
      args: ["--host", `unix://${socket}`],
      env: { NOTIFY_SOCKET: notify, WATCHDOG_USEC: "200000" },
    });
  });

  after(async () => {
    await daemon?.stop();
    manager?.kill();
  });

  const ask = (): Promise<CommandResult> =>
    runCommand("docker", ["--host", `unix://${socket}`, "ps"], { env: daemon.clientEnv });
  const inode = (): number => lstatSync(socket).ino;

  it("is told ready once it serves, and that the watchdog need not bark", async () => {
    await untilTrue(() => count("READY=1") === 1 && count("WATCHDOG=1") > 1);
  });

  it("is told on where the helper that tells it was killed", async () => {
    const helper = childrenOf(daemon.pid).find((pid) =>
      commandLineOf(pid).endsWith("sockerless-agent notify"),
    );
    assert.ok(helper !== undefined);
    process.kill(helper);
    await untilTrue(() => !isAlive(helper));
    const told = count("WATCHDOG=1");
    await untilTrue(() => count("WATCHDOG=1") > told + 1);
  });

  it("serves the socket that it is given, the next frontend too", async () => {
    const made = inode();
    assert.equal((await ask()).code, 0);
    const frontend = await processOf(daemon, "frontend");
    process.kill(frontend, "SIGKILL");
    assert.equal((await ask()).code, 0);
    assert.equal(inode(), made);
  });

  it("leaves none of this to the processes that it starts", async () => {
    const environment = readFileSync(`/proc/${await processOf(daemon, "host")}/environ`, "utf8");
    assert.doesNotMatch(environment, /NOTIFY_SOCKET|WATCHDOG_|LISTEN_/);
  });

  it("tells the beginning and the end of a reload", async () => {
    process.kill(daemon.pid, "SIGHUP");
    await untilTrue(() => count("READY=1") === 2);
    const said = messages.filter((each) => each !== "WATCHDOG=1");
    assert.match(said.at(-2) ?? "", /^RELOADING=1\nMONOTONIC_USEC=\d+$/);
  });

  it("tells that it stops, and leaves the socket's file to its maker", async () => {
    const made = inode();
    await daemon.shutDown();
    await untilTrue(() => count("STOPPING=1") === 1);
    assert.equal(inode(), made);
  });

  it("refuses a socket that is none of its hosts", async () => {
    const other = join(directory, "other.sock");
    const serve = [
      "serve",
      "--host",
      daemon.host,
      "--state-dir",
      daemon.stateDir,
      "--run-dir",
      daemon.runDir,
    ];
    const refused = await runCommand("python3", [
      "-c",
      activate,
      other,
      join(checkout, "bin/sockerless"),
      ...serve,
    ]);
    assert.equal(refused.code, 1);
    assert.match(refused.errorText, /listens on \S+other\.sock, which is none of the hosts here/);
  });
});
