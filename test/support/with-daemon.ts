import { after, before } from "node:test";

import { backendUnderTest } from "./backend-under-test.ts";
import { Daemon, type DaemonOptions } from "./daemon.ts";
import { busyboxArchiveFile } from "./images.ts";

/** Gives the tests of a file one daemon with the image `busybox`, on the backend under test. */
export function withDaemon(options: DaemonOptions = {}): { readonly daemon: Daemon } {
  const resources = new AsyncDisposableStack();
  let started: Daemon | undefined;
  before(async () => {
    started = await startDaemon(resources, options);
    await started.ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    await resources.disposeAsync();
  });
  return {
    get daemon() {
      if (started === undefined) {
        throw new Error("the daemon is there once a test runs");
      }
      return started;
    },
  };
}

/** Starts a daemon on the backend under test. */
export async function startDaemon(
  resources: AsyncDisposableStack,
  options: DaemonOptions = {},
): Promise<Daemon> {
  if (backendUnderTest() === "local") {
    return resources.use(await Daemon.start(options));
  }
  // Only where it is wanted: a simulated cloud is much to load. Files of what has ended are there as long as a test takes.
  const { EcsDaemon } = await import("./ecs-daemon.ts");
  return resources.use(await EcsDaemon.start({ daemon: options, ecs: { linger: "20m" } })).daemon;
}

/** Arguments and environment of `sockerless backend` on the backend under test, its name included. */
export async function backendProgram(
  resources: AsyncDisposableStack,
): Promise<{ readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv }> {
  if (backendUnderTest() === "local") {
    return { args: ["local"], env: process.env };
  }
  const { EcsAccount } = await import("./ecs-daemon.ts");
  const { args, env } = resources.use(await EcsAccount.open({ ecs: { linger: "20m" } }));
  return { args: ["ecs", ...args], env: { ...process.env, ...env } };
}
