/**
 * The contract between the engine (Docker's semantics, `../engine`) and a driver (`local`, `ecs`, `aca`, `kubernetes`). A
 * driver is small: it creates and removes things, and knows nothing of Docker's HTTP or JSON. One contract suite
 * (`test/contract`) runs against every driver.
 *
 * A driver is composed of roles. Every driver has every role and every method, and uses ready-made roles
 * (`ready-made-roles.ts`) where it needs no code of its own. Only data may be left out.
 *
 * Rules for every role:
 * - Calls are keyed by IDs that the engine chose, and may be repeated: what already exists is left as it is; removing
 *   what is gone is no error. The engine repeats calls after a crash.
 * - Failures are `SockerlessError`s (src/common/errors) of the kinds that the comment lists; anything else counts as
 *   `system`. A failed call leaves nothing that would make a second call fail.
 * - An aborted signal ends the wait, not necessarily the work.
 */
import type { AgentAuthority, AgentReach, Seals, SilentAgents } from "./agents.ts";
import type { ImagePreparer } from "./images.ts";
import type { Launches } from "./launches.ts";
import type { Disk, Machine } from "./machine.ts";
import type { ContainerTraffic, NetworkFabric, NetworkSharing, PublishedPorts } from "./networks.ts";
import type { Site } from "./site.ts";
import type { PreparedWorkloads } from "./prepared.ts";
import type { HostPaths, LimitChanges, SettingRules } from "./settings.ts";
import type { VolumeStore } from "./volumes.ts";
import type { Workloads } from "./workloads.ts";

/** All roles of one backend's driver. */
export interface Driver {
  /** The backend's name as users write it. */
  readonly name: "local" | "ecs" | "aca" | "kubernetes";
  readonly settings: SettingRules;
  readonly site: Site;
  readonly workloads: Workloads;
  readonly launches: Launches;
  readonly silentAgents: SilentAgents;
  readonly authority: AgentAuthority;
  readonly seals: Seals;
  readonly limits: LimitChanges;
  readonly ports: PublishedPorts;
  readonly hostPaths: HostPaths;
  readonly images: ImagePreparer;
  readonly networks: NetworkFabric;
  readonly sharing: NetworkSharing;
  readonly traffic: ContainerTraffic;
  readonly agentReach: AgentReach;
  readonly volumes: VolumeStore;
  readonly prepared: PreparedWorkloads;
  readonly machine: Machine;
  readonly disk: Disk;
  /** Drains and lets go of connections and the host process; containers go on. */
  close(): Promise<void>;
}
