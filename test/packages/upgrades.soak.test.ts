/** Upgrades on this machine, on ECS and on Azure. `npm run soak -- packages`. */
import { join } from "node:path";

import { AcaAccount } from "../support/aca-daemon.ts";
import { Daemon } from "../support/daemon.ts";
import { EcsAccount } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { describeUpgrade, type EarlierDaemon, type UpgradedBackend } from "../support/upgrade.ts";

const program = (earlier: string): string => join(earlier, "bin/sockerless");
const inClouds = { hasBlockVolumes: false, keepsConnections: false };

const backends: readonly UpgradedBackend[] = [
  {
    name: "local",
    hasBlockVolumes: true,
    keepsConnections: true,
    start: async (earlier, resources) =>
      await withBusybox(resources.use(await Daemon.start({ program: program(earlier) }))),
  },
  {
    name: "ecs",
    ...inClouds,
    start: async (earlier, resources) => {
      const { args, env } = resources.use(await EcsAccount.open({ agentOf: earlier }));
      const options = { program: program(earlier), args: ["--backend", "ecs", ...args], env };
      return await withBusybox(resources.use(await Daemon.start(options)));
    },
  },
  {
    name: "aca",
    ...inClouds,
    start: async (earlier, resources) => {
      const account = resources.use(await AcaAccount.open({ agentOf: earlier }));
      const args = ["--backend", "aca", ...account.args];
      const options = { program: program(earlier), args, env: account.env };
      const daemon = resources.use(await Daemon.start(options));
      await daemon.ok("pull", account.image("busybox:latest"));
      await daemon.ok("tag", account.image("busybox:latest"), "busybox");
      return { daemon, pushAgent: () => account.pushAgent() };
    },
  },
];

async function withBusybox(daemon: Daemon): Promise<EarlierDaemon> {
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  return { daemon };
}

for (const backend of backends) {
  describeUpgrade(backend);
}
