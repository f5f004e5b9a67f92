import { after, before } from "node:test";

import type { Azure } from "../simulators/azure/azure.ts";
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
  const account = await openAccount(resources);
  return resources.use(
    await Daemon.start({
      ...options,
      args: [
        ...(account === undefined ? [] : ["--backend", backendUnderTest(), ...account.args]),
        ...(options.args ?? []),
      ],
      env: { ...account?.env, ...options.env },
    }),
  );
}

/** Arguments and environment of `sockerless backend` on the backend under test, its name included. */
export async function backendProgram(
  resources: AsyncDisposableStack,
): Promise<{ readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv }> {
  const account = await openAccount(resources);
  return { args: [backendUnderTest(), ...(account?.args ?? [])], env: { ...process.env, ...account?.env } };
}

/** A simulated account of the cloud under test, and what a backend that uses it is started with. */
async function openAccount(
  resources: AsyncDisposableStack,
): Promise<{ readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> } | undefined> {
  const linger = "20m"; // Files of what has ended are there as long as a test takes.
  // Only where it is wanted: a simulated cloud is much to load.
  switch (backendUnderTest()) {
    case "local":
      return undefined;
    case "ecs": {
      const { EcsAccount } = await import("./ecs-daemon.ts");
      return resources.use(await EcsAccount.open({ ecs: { linger } }));
    }
    case "aca": {
      const { AcaAccount } = await import("./aca-daemon.ts");
      const aca = async ({ endpoint }: Azure) => ({ linger, logs_endpoint: endpoint });
      return resources.use(await AcaAccount.open({ aca }));
    }
    case "kubernetes": {
      const { KubernetesAccount, sharedCluster } = await import("./kubernetes-daemon.ts");
      return resources.use(await KubernetesAccount.open(await sharedCluster(resources)));
    }
  }
}
