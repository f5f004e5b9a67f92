import type { Driver } from "../../driver/driver.ts";
import type { ImagePreparer } from "../../driver/images.ts";
import type { Credentials } from "../../images/registry/credentials.ts";
import type { AgentFinder } from "./agent-finder.ts";
import type { CloudTasks, TaskRequests } from "./cloud-tasks.ts";
import type { PreparedTasks } from "./prepared-tasks.ts";
import type { ServiceDiscovery } from "./service-discovery.ts";
import type { CloudLog } from "./cloud-log.ts";

/** Images, and credentials for the cloud's own registries. */
export interface CloudImages extends ImagePreparer {
  /** Credentials for a pull that has none; undefined if none are known for the host. */
  credentialsFor(domain: string): Promise<Credentials | undefined>;
}

/** A check of one cloud resource. */
export interface StartCheck {
  /** Name of the resource, for the log. */
  readonly what: string;
  /** @returns a problem for containers; undefined if there is none */
  run(signal: AbortSignal): Promise<string | undefined>;
}

/** A kind of resource to clean up. */
export interface Sweep {
  /** Its name, for the log. */
  readonly what: string;
  run(signal: AbortSignal): Promise<void>;
}

/** Everything that a cloud supplies; the rest of its driver is the same in all clouds. */
export interface CloudPlatform
  extends Pick<Driver, "name" | "settings" | "machine" | "networks" | "volumes"> {
  readonly images: CloudImages;
  readonly tasks: CloudTasks;
  readonly requests: TaskRequests;
  readonly prepared: PreparedTasks;
  readonly finder: AgentFinder;
  /** Containers' output as the cloud keeps it. */
  readonly log: CloudLog;
  readonly discovery: ServiceDiscovery;
  /** Checks of the cloud at the backend's start. */
  readonly checks: readonly StartCheck[];
  /** Periodic cleanups of unused resources. */
  readonly sweeps: readonly Sweep[];
  /** Aborts calls in progress and refuses others. */
  abandon(): void;
  /** The same, and ends background work. */
  close(): Promise<void>;
}
