import type { Driver } from "../../driver/driver.ts";
import type { ImagePreparer } from "../../driver/images.ts";
import type { Credentials } from "../../images/registry/credentials.ts";
import type { AgentFinder } from "./agent-finder.ts";
import type { CloudTasks, TaskRequests } from "./cloud-tasks.ts";
import type { ServiceDiscovery } from "./service-discovery.ts";
import type { CloudLog } from "./cloud-log.ts";

/** Images, and credentials for the registries that the cloud itself knows. */
export interface CloudImages extends ImagePreparer {
  /** Whether there is a repository for images that no registry has. */
  readonly keepsOwn: boolean;
  /** Credentials for a pull that has none of its own; undefined: none are known for the host. */
  credentialsFor(domain: string): Promise<Credentials | undefined>;
}

/** One thing of the cloud that is looked at. */
export interface StartCheck {
  /** Name of the thing, for the log. */
  readonly what: string;
  /** @returns what containers will trip over; undefined: nothing */
  run(signal: AbortSignal): Promise<string | undefined>;
}

/** Something that is cleared away. */
export interface Sweep {
  /** Name of what is cleared away, for the log. */
  readonly what: string;
  run(signal: AbortSignal): Promise<void>;
}

/** Everything that a cloud supplies; the rest of its driver is the same in all clouds. */
export interface CloudPlatform
  extends Pick<Driver, "name" | "capabilities" | "settings" | "machine" | "networks" | "volumes"> {
  readonly images: CloudImages;
  readonly tasks: CloudTasks;
  readonly requests: TaskRequests;
  readonly finder: AgentFinder;
  /** Containers' output as the cloud keeps it. */
  readonly log: CloudLog;
  readonly discovery: ServiceDiscovery;
  /** Checks of the cloud at the backend's start. */
  readonly checks: readonly StartCheck[];
  /** Rounds of clearing away what is not used any more. */
  readonly sweeps: readonly Sweep[];
  /** Ends the calls that are under way, and refuses others. */
  abandon(): void;
  /** The same, and ends what goes on behind answers. */
  close(): Promise<void>;
}
