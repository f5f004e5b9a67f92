/**
 * The contract between the engine (Docker's semantics, `../engine`) and a
 * driver (`local`, `ecs`, `aca`). A driver is small: it makes things exist and
 * go away, and knows nothing of Docker's HTTP or JSON. One contract suite
 * (`test/contract`) runs against every driver.
 *
 * It is composed of roles. Every driver has every role and every method; where it has nothing of its own to say, it takes
 * one that is ready-made (`ready-made-roles.ts`). Only data may be left out.
 *
 * Rules for every role:
 * - Calls are keyed by IDs that the engine chose and may be repeated: what is
 *   already there is left as it is, what is already gone is no error. The
 *   engine repeats calls after a crash.
 * - Failures are `SockerlessError`s (src/common/errors) of the kind that the
 *   comment names; anything else counts as `system`. A call that fails leaves
 *   nothing behind that a second call would trip over.
 * - A signal that aborts ends the wait, not necessarily the work.
 */
import type { Capabilities } from "../../gen/sockerless/backend/v1/system_pb.ts";
import type { AgentAuthority, AgentReach, Seals, SilentAgents } from "./agents.ts";
import type { ImagePreparer } from "./images.ts";
import type { Launches } from "./launches.ts";
import type { Disk, Machine } from "./machine.ts";
import type { ContainerTraffic, NetworkFabric, NetworkSharing, PublishedPorts } from "./networks.ts";
import type { Platform } from "./platform.ts";
import type { HostPaths, LimitChanges, SettingRules } from "./settings.ts";
import type { VolumeStore } from "./volumes.ts";
import type { Workloads } from "./workloads.ts";

/** All roles of one backend's driver. */
export interface Driver {
  /** The backend's name as users write it. */
  readonly name: "local" | "ecs" | "aca";
  /** The engine refuses what is not among them. */
  readonly capabilities: Capabilities;
  readonly settings: SettingRules;
  readonly platform: Platform;
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
  readonly machine: Machine;
  readonly disk: Disk;
  /** Drains and lets go of connections and the host process; containers go on. */
  close(): Promise<void>;
}
