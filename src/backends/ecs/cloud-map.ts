/**
 * A mirror of containers' names in Cloud Map, for clients outside: `<alias>.<first 12 digits of the network's ID>` in the
 * configured namespace. Containers themselves ask their agents. Nothing waits for it; what Cloud Map refuses is tried
 * again, and logged when it does not help.
 */
import {
  CreateServiceCommand,
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  RegisterInstanceCommand,
  type ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { AwsService } from "./aws/clients.ts";
import { isAwsError } from "./aws/errors.ts";
import { descriptionOf, instancesOf, servicesOf } from "./cloud-map/services.ts";
import { instanceTag } from "./tags.ts";

/** Tells outsiders the names of containers. Every method answers at once. */
export interface NameMirror {
  /** A container runs at an address: it has its names on its user-defined networks. */
  announce(record: ContainerRecord, address: string): void;
  /** It has them no more, on one network (by ID) or on all. */
  withdraw(containerId: string, networkId?: string): void;
  /** A network is gone, and every name on it. */
  forgetNetwork(networkId: string): void;
  /** These containers run, by ID: names of others that an earlier process left are cleared away. */
  reconcile(running: ReadonlySet<string>): void;
  /** Ends what is under way; the next process goes on. */
  close(): Promise<void>;
}

/** What the mirror is made with. */
export interface CloudMapOptions {
  readonly serviceDiscovery: AwsService<ServiceDiscoveryClient>;
  readonly namespaceId: string;
  /** Of this sockerless; services of others are let be. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Cloud Map: a label of a DNS name each, underscores allowed. */
const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
const timeToLiveSeconds = 5;
const firstPauseMs = 1_000;
const longestPauseMs = 60_000;
/** In a row, for one name. */
const mostAttempts = 10;
const builtinNetworks: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

/** A service as it is: by container ID the address that is registered. */
interface Service {
  readonly id: string;
  readonly instances: Map<string, string>;
}

/** Brings services to what is wanted of them, one call at a time. */
export class CloudMapMirror implements NameMirror {
  readonly #options: CloudMapOptions;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  /** By the service's name: container ID to address. */
  readonly #wanted = new Map<string, Map<string, string>>();
  readonly #present = new Map<string, Service>();
  /** Names that may not be as wanted, with the attempts that failed in a row. */
  readonly #changed = new Map<string, number>();
  #loaded = false;
  #running: ReadonlySet<string> | undefined;
  #working: Promise<void> | undefined;

  constructor(options: CloudMapOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "cloud-map");
  }

  announce(record: ContainerRecord, address: string): void {
    for (const [network, { networkId, config }] of Object.entries(record.endpoints)) {
      if (builtinNetworks.has(network) || address === "") {
        continue;
      }
      for (const name of new Set([record.name, ...(config?.aliases ?? [])])) {
        if (label.test(name.toLowerCase())) {
          this.#want(serviceName(name, networkId)).set(record.id, address);
          this.#change(serviceName(name, networkId));
        } else {
          this.#logger.debug({ container: record.id, name }, "a name is none that Cloud Map takes");
        }
      }
    }
  }

  withdraw(containerId: string, networkId?: string): void {
    const ending = networkId === undefined ? "" : `.${shortId(networkId)}`;
    for (const [name, instances] of this.#wanted) {
      if (name.endsWith(ending) && instances.delete(containerId)) {
        this.#change(name);
      }
    }
  }

  forgetNetwork(networkId: string): void {
    for (const [name, instances] of this.#wanted) {
      if (name.endsWith(`.${shortId(networkId)}`)) {
        instances.clear();
        this.#change(name);
      }
    }
  }

  reconcile(running: ReadonlySet<string>): void {
    this.#running = running;
    this.#work();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#working;
  }

  #want(name: string): Map<string, string> {
    const wanted = this.#wanted.get(name) ?? new Map<string, string>();
    this.#wanted.set(name, wanted);
    return wanted;
  }

  #change(name: string): void {
    this.#changed.set(name, 0);
    this.#work();
  }

  #work(): void {
    if (!this.#closing.signal.aborted) {
      this.#working ??= this.#workOff().finally(() => {
        this.#working = undefined;
        if (this.#changed.size > 0 || this.#running !== undefined) {
          this.#work(); // It changed while the last look ended.
        }
      });
    }
  }

  async #workOff(): Promise<void> {
    const { signal } = this.#closing;
    await Promise.resolve(); // Changes of one turn are worked off together.
    for (let failures = 0; !signal.aborted; ) {
      const [name] = this.#changed.keys();
      try {
        await this.#load();
        this.#clearLeft();
        if (name === undefined) {
          if (this.#changed.size === 0) {
            return;
          }
          continue;
        }
        await this.#bring(name);
        failures = 0;
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        failures += 1;
        this.#failed(name, error);
        const pause = Math.min(firstPauseMs * 2 ** (failures - 1), longestPauseMs);
        await this.#options.clock.sleep(pause, signal).catch(() => undefined);
        if (name === undefined && failures === mostAttempts) {
          this.#running = undefined;
          return;
        }
      }
    }
  }

  /** Brings one service to what is wanted of it. What changes meanwhile is a change of its own. */
  async #bring(name: string): Promise<void> {
    const attempts = this.#changed.get(name) ?? 0;
    const wanted = new Map(this.#wanted.get(name));
    this.#changed.delete(name);
    try {
      const service = this.#present.get(name) ?? (wanted.size === 0 ? undefined : await this.#create(name));
      if (service === undefined) {
        this.#forget(name);
        return;
      }
      for (const [containerId, address] of wanted) {
        if (service.instances.get(containerId) !== address) {
          await this.#register(service, containerId, address);
        }
      }
      for (const containerId of [...service.instances.keys()].filter((each) => !wanted.has(each))) {
        await this.#deregister(service, containerId);
      }
      if (wanted.size === 0) {
        await this.#delete(name, service);
      }
    } catch (error) {
      if (!this.#changed.has(name)) {
        this.#changed.set(name, attempts + 1);
      }
      throw error;
    }
  }

  #failed(name: string | undefined, error: unknown): void {
    if (name !== undefined && (this.#changed.get(name) ?? 0) >= mostAttempts) {
      this.#changed.delete(name);
      this.#logger.warn({ err: error, name }, `Cloud Map does not take a name: ${messageOf(error)}`);
      return;
    }
    const attempts = name === undefined ? 0 : (this.#changed.get(name) ?? 0);
    if (name !== undefined) {
      // The others are not held up by one that fails.
      this.#changed.delete(name);
      this.#changed.set(name, attempts);
    }
    this.#logger.debug({ err: error, name }, "Cloud Map is asked again");
  }

  /** What an earlier process made. */
  async #load(): Promise<void> {
    if (this.#loaded) {
      return;
    }
    const found = new Map<string, Service>();
    const { serviceDiscovery, namespaceId, instance } = this.#options;
    const { signal } = this.#closing;
    for (const service of await servicesOf(serviceDiscovery, namespaceId, signal)) {
      if (service.instance === instance) {
        const instances = await instancesOf(serviceDiscovery, service.id, signal);
        found.set(service.name, { id: service.id, instances });
      }
    }
    for (const [name, service] of found) {
      this.#present.set(name, service);
    }
    this.#loaded = true;
  }

  /** Once it is known who runs: the names of those who do are wanted, the others' are not. */
  #clearLeft(): void {
    const running = this.#running;
    if (running === undefined) {
      return;
    }
    this.#running = undefined;
    for (const [name, { instances }] of this.#present) {
      const wanted = this.#want(name);
      for (const [containerId, address] of instances) {
        if (running.has(containerId) && !wanted.has(containerId)) {
          wanted.set(containerId, address);
        }
      }
      if (wanted.size === 0 || [...instances.keys()].some((containerId) => !wanted.has(containerId))) {
        this.#changed.set(name, 0);
      }
    }
  }

  async #create(name: string): Promise<Service> {
    const { serviceDiscovery, namespaceId, instance } = this.#options;
    let id: string | undefined;
    try {
      const { Service: made } = await serviceDiscovery.send(
        new CreateServiceCommand({
          Name: name,
          NamespaceId: namespaceId,
          Description: descriptionOf(instance),
          DnsConfig: {
            RoutingPolicy: "MULTIVALUE",
            DnsRecords: [{ Type: "A", TTL: timeToLiveSeconds }],
          },
          Tags: [{ Key: instanceTag, Value: instance }],
        }),
        { abortSignal: this.#closing.signal },
      );
      id = made?.Id;
    } catch (error) {
      if (!isAwsError(error, "ServiceAlreadyExists")) {
        throw error;
      }
      id = (error.cause as { readonly ServiceId?: string }).ServiceId;
    }
    const service = { id: id ?? "", instances: new Map<string, string>() };
    this.#present.set(name, service);
    return service;
  }

  async #register(service: Service, containerId: string, address: string): Promise<void> {
    await this.#options.serviceDiscovery.send(
      new RegisterInstanceCommand({
        ServiceId: service.id,
        InstanceId: containerId,
        Attributes: { AWS_INSTANCE_IPV4: address },
      }),
      { abortSignal: this.#closing.signal },
    );
    service.instances.set(containerId, address);
  }

  async #deregister(service: Service, containerId: string): Promise<void> {
    try {
      await this.#options.serviceDiscovery.send(
        new DeregisterInstanceCommand({ ServiceId: service.id, InstanceId: containerId }),
        { abortSignal: this.#closing.signal },
      );
    } catch (error) {
      if (!isAwsError(error, "InstanceNotFound", "ServiceNotFound")) {
        throw error;
      }
    }
    service.instances.delete(containerId);
  }

  /** Refused for a while after the last instance was taken away, and tried again like everything that fails. */
  async #delete(name: string, service: Service): Promise<void> {
    try {
      await this.#options.serviceDiscovery.send(new DeleteServiceCommand({ Id: service.id }), {
        abortSignal: this.#closing.signal,
      });
    } catch (error) {
      if (!isAwsError(error, "ServiceNotFound")) {
        throw error;
      }
    }
    this.#present.delete(name);
    this.#forget(name);
  }

  /** Nobody has the name, unless somebody wants it again. */
  #forget(name: string): void {
    if (this.#wanted.get(name)?.size === 0) {
      this.#wanted.delete(name);
    }
  }
}

function serviceName(name: string, networkId: string): string {
  return `${name.toLowerCase()}.${shortId(networkId)}`;
}
