import { networkInterfaces } from "node:os";

import type { Aws } from "../simulators/aws/aws.ts";
import type { Azure } from "../simulators/azure/azure.ts";
import { backendUnderTest } from "./backend-under-test.ts";
import { Daemon, type DaemonOptions } from "./daemon.ts";
import { duringTests } from "./during-tests.ts";
import { EngineApi } from "./engine-api.ts";
import { busyboxArchiveFile } from "./images.ts";

/** Gives the tests of a file one daemon with the image `busybox`, on the backend under test, and its clients. */
export function withDaemon(options: DaemonOptions = {}) {
  const setting = duringTests(async (resources) => {
    const started = await startSetting(resources, options);
    await started.daemon.ok("load", "--input", await busyboxArchiveFile());
    return started;
  });
  const { daemon } = setting;
  return {
    daemon,
    host: () => setting.host,
    docker: (...args: string[]) => daemon.docker(...args),
    ok: (...args: string[]) => daemon.ok(...args),
    inspect: (object: string, format: string) => daemon.ok("inspect", "--format", format, object),
    api: new EngineApi(() => daemon.socket),
  };
}

/** Starts a daemon on the backend under test. */
export async function startDaemon(
  resources: AsyncDisposableStack,
  options: DaemonOptions = {},
): Promise<Daemon> {
  return (await startSetting(resources, options)).daemon;
}

/** A daemon, and where it is. */
export interface Setting {
  readonly daemon: Daemon;
  /** Address at which its containers reach this machine. */
  readonly host: string;
}

/** Starts a daemon on the backend under test, as {@link startDaemon}. @param ecs settings on that backend */
export async function startSetting(
  resources: AsyncDisposableStack,
  options: DaemonOptions = {},
  ecs?: (aws: Aws) => Readonly<Record<string, unknown>>,
): Promise<Setting> {
  const account = await openAccount(resources, ecs);
  const daemon = resources.use(
    await Daemon.start({
      ...options,
      args: [
        ...(account === undefined ? [] : ["--backend", backendUnderTest(), ...account.args]),
        ...(options.args ?? []),
      ],
      env: { ...account?.env, ...options.env },
    }),
  );
  return { daemon, host: account?.host ?? ownAddress() };
}

/** An address of this machine; the one of its loopback interface where it has no other. */
function ownAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return addresses.find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "127.0.0.1";
}

/** Arguments and environment of `sockerless backend` on the backend under test, its name included. */
export async function backendProgram(
  resources: AsyncDisposableStack,
): Promise<{ readonly args: readonly string[]; readonly env: NodeJS.ProcessEnv }> {
  const account = await openAccount(resources);
  return { args: [backendUnderTest(), ...(account?.args ?? [])], env: { ...process.env, ...account?.env } };
}

/** Parts of an account that a backend is started with, and the address at which its containers reach this machine. */
interface Account {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly host: string;
}

/** A simulated account of the cloud under test, and what a backend that uses it is started with. */
async function openAccount(
  resources: AsyncDisposableStack,
  ecs?: (aws: Aws) => Readonly<Record<string, unknown>>,
): Promise<Account | undefined> {
  const linger = "20m"; // Files of what has ended are there as long as a test takes.
  // Only where it is wanted: a simulated cloud is much to load.
  switch (backendUnderTest()) {
    case "local":
      return undefined;
    case "ecs": {
      const { EcsAccount } = await import("./ecs-daemon.ts");
      const account = resources.use(
        await EcsAccount.open({ ecs: async (aws) => ({ linger, ...ecs?.(aws) }) }),
      );
      return { ...partsOf(account), host: account.aws.services.network.subnets()[0]?.routerAddress ?? "" };
    }
    case "aca": {
      const { AcaAccount } = await import("./aca-daemon.ts");
      const aca = async ({ endpoint }: Azure) => ({ linger, logs_endpoint: endpoint });
      const account = resources.use(await AcaAccount.open({ aca }));
      return { ...partsOf(account), host: account.azure.hostAddress };
    }
    case "kubernetes": {
      const { KubernetesAccount, sharedCluster } = await import("./kubernetes-daemon.ts");
      const { node } = await import("./kubernetes-node.ts");
      const account = resources.use(await KubernetesAccount.open(await sharedCluster(resources)));
      return { ...partsOf(account), host: node };
    }
  }
}

const partsOf = ({ args, env }: Omit<Account, "host">): Omit<Account, "host"> => ({ args, env });
