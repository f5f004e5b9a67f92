/**
 * Containers' names in Cloud Map, for external clients: `<alias>.<first 12 digits of the network's ID>` in the
 * configured namespace. Containers themselves ask their agents. Nothing waits for Cloud Map; refused calls are retried,
 * and logged if retries fail.
 */
import { isIPv6 } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";

import {
  CreateServiceCommand,
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  RegisterInstanceCommand,
  type ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";

import type { Clock } from "../../common/clock.ts";
import { ignoring, messageOf } from "../../common/errors.ts";
import { getOrInsert } from "../../common/get-or-insert.ts";
import { shortId } from "../../common/ids.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { AwsService } from "./aws/clients.ts";
import { isAwsError } from "./aws/errors.ts";
import { type NameChange, NameChanges } from "./cloud-map/changes.ts";
import {
  descriptionOf,
  instancesOf,
  ipv4Attribute,
  ipv6Attribute,
  servicesOf,
} from "./cloud-map/services.ts";
import type { ServiceDiscovery } from "../cloud/contract/service-discovery.ts";
import { instanceTag } from "./tags.ts";
import { pauseAfter } from "../../common/pauses.ts";

/** Settings and dependencies of {@link CloudMapDiscovery}. */
export interface CloudMapOptions {
  readonly serviceDiscovery: AwsService<ServiceDiscoveryClient>;
  readonly namespaceId: string;
  /** Name of this instance (`sockerless/<hex>`); services of others are left alone. */
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A label of a DNS name in Cloud Map: may have underscores, but cannot be a single one. */
const label = "(?:[a-z0-9_][a-z0-9_-]{0,61}[a-z0-9_]|[a-z0-9])";
const legalName = new RegExp(`^${label}(?:\\.${label})*$`);
const mostNameCharacters = 127;
const timeToLiveSeconds = 5;
const pauses = { firstMs: 1_000, longestMs: 60_000 };
/** Maximum consecutive failed attempts for one name. */
const mostAttempts = 10;
/** Maximum names of one container: a namespace has room for 2,000 of all. */
const mostNames = 32;
const builtinNetworks: ReadonlySet<string> = new Set(["bridge", "host", "none"]);

type CallKind = "create" | "register" | "deregister" | "delete";

/** A call that was not made because of its kind's pause. */
class NotYet extends Error {
  readonly kind: CallKind;

  constructor(kind: CallKind) {
    super("Cloud Map has refused calls of this kind a moment ago");
    this.kind = kind;
  }
}

/** A service in Cloud Map, with the registered addresses by container ID. */
interface Service {
  readonly id: string;
  readonly instances: Map<string, string>;
}

/** Reconciles services with the wanted names, one call at a time; a refused kind of call only delays its own kind. */
export class CloudMapDiscovery implements ServiceDiscovery {
  readonly #options: CloudMapOptions;
  readonly #logger: Logger;
  readonly #closing = new AbortController();
  /** By the service's name: container ID to address. */
  readonly #wanted = new Map<string, Map<string, string>>();
  /** By container ID: the services' names. */
  readonly #names = new Map<string, Set<string>>();
  readonly #present = new Map<string, Service>();
  readonly #changed = new NameChanges<CallKind>((kind) => this.#refused.get(kind)?.untilMs ?? 0);
  /** Kinds of refused calls: the number of consecutive refusals, and the end of the pause. */
  readonly #refused = new Map<CallKind, { readonly failures: number; readonly untilMs: number }>();
  /** Ends the current pause early. */
  #wake: AbortController | undefined;
  #loaded = false;
  /**
   * Names withdrawn before the names of an earlier process are adopted, which must not be adopted then: `<container
   * ID>.<network>`, `<container ID>` on all networks, or `.<network>` of all containers. Undefined after the adoption.
   */
  #lost: Set<string> | undefined = new Set();
  #running: ReadonlySet<string> | undefined;
  #working: Promise<void> | undefined;

  constructor(options: CloudMapOptions) {
    this.#options = options;
    this.#logger = componentLogger(options.logger, "cloud-map");
  }

  announce(record: ContainerRecord, address: string): void {
    let left = 0;
    for (const [network, { networkId, config }] of Object.entries(record.endpoints)) {
      if (builtinNetworks.has(network) || address === "") {
        continue;
      }
      for (const name of new Set([record.name, ...(config?.aliases ?? [])])) {
        const service = serviceName(name, networkId);
        const names = this.#names.get(record.id);
        if (service.length > mostNameCharacters || !legalName.test(service)) {
          this.#logger.debug({ container: record.id, name }, "a name is none that Cloud Map takes");
        } else if (names?.has(service) || (names?.size ?? 0) < mostNames) {
          this.#give(service, record.id, address);
          this.#change(service);
        } else {
          left += 1;
        }
      }
    }
    if (left > 0) {
      this.#logger.warn(
        { container: record.id },
        `${left} names of a container are not in Cloud Map, which takes at most ${mostNames} of a container`,
      );
    }
  }

  withdraw(containerId: string, networkId?: string): void {
    const ending = networkId === undefined ? "" : `.${shortId(networkId)}`;
    this.#lost?.add(`${containerId}${ending}`);
    for (const name of this.#names.get(containerId) ?? []) {
      if (name.endsWith(ending)) {
        this.#take(name, containerId);
      }
    }
  }

  forgetNetwork(networkId: string): void {
    this.#lost?.add(`.${shortId(networkId)}`);
    for (const [name, instances] of this.#wanted) {
      if (name.endsWith(`.${shortId(networkId)}`)) {
        for (const containerId of instances.keys()) {
          this.#take(name, containerId);
        }
        this.#change(name); // Its service may have been given up.
      }
    }
  }

  reconcile(running: ReadonlySet<string>): void {
    this.#running = running;
    this.#work();
    this.#wake?.abort();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#working;
  }

  #want(name: string): Map<string, string> {
    return getOrInsert(this.#wanted, name, () => new Map());
  }

  #give(name: string, containerId: string, address: string): void {
    this.#want(name).set(containerId, address);
    getOrInsert(this.#names, containerId, () => new Set()).add(name);
  }

  #take(name: string, containerId: string): void {
    this.#wanted.get(name)?.delete(containerId);
    const names = this.#names.get(containerId);
    names?.delete(name);
    if (names?.size === 0) {
      this.#names.delete(containerId);
    }
    this.#change(name);
  }

  #change(name: string): void {
    this.#changed.put({ name, attempts: 0, dueMs: 0 });
    this.#work();
    this.#wake?.abort();
  }

  #work(): void {
    if (!this.#closing.signal.aborted) {
      this.#working ??= this.#workOff().finally(() => {
        this.#working = undefined;
        if (this.#changed.size > 0 || this.#running !== undefined) {
          this.#work(); // A name changed while the last round ended.
        }
      });
    }
  }

  async #workOff(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#closing;
    await Promise.resolve(); // Collects the changes of one turn of the event loop.
    for (let failures = 0; !signal.aborted; ) {
      try {
        await this.#load();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (signal.aborted || (this.#changed.size === 0 && failures > mostAttempts)) {
          this.#running = undefined;
          return;
        }
        this.#logger.debug({ err: error }, "Cloud Map is asked again what it has");
        await clock.sleep(pauseAfter(failures, pauses), signal).catch(() => undefined);
        continue;
      }
      this.#clearLeft();
      const next = this.#changed.next(clock.nowMs());
      if (next === undefined) {
        return;
      }
      if (next.dueMs > clock.nowMs()) {
        this.#wake = new AbortController();
        const woken = AbortSignal.any([signal, this.#wake.signal]);
        await clock.sleep(next.dueMs - clock.nowMs(), woken).catch(() => undefined);
        continue;
      }
      await this.#bring(next);
    }
  }

  /** Reconciles one service, or schedules the next attempt. Changes made meanwhile are handled separately. */
  async #bring({ name, attempts, dueMs }: NameChange): Promise<void> {
    this.#changed.delete(name);
    try {
      await this.#bringNow(name);
    } catch (error) {
      if (isAwsError(error, "ServiceNotFound")) {
        this.#present.delete(name); // Somebody has deleted it: another one is created.
      }
      if (this.#closing.signal.aborted || this.#changed.has(name)) {
        return;
      }
      if (error instanceof NotYet) {
        this.#changed.put({ name, attempts, dueMs }, error.kind);
        await nextTurn(); // Nothing was waited for: other work goes on between thousands of names.
      } else if (attempts + 1 >= mostAttempts) {
        this.#logger.warn({ err: error, name }, `Cloud Map does not take a name: ${messageOf(error)}`);
      } else {
        this.#logger.debug({ err: error, name }, "Cloud Map is asked again");
        const nextMs = this.#options.clock.nowMs() + pauseAfter(attempts + 1, pauses);
        this.#changed.put({ name, attempts: attempts + 1, dueMs: nextMs });
      }
    }
  }

  async #bringNow(name: string): Promise<void> {
    const wanted = new Map(this.#wanted.get(name));
    const [first] = wanted.values();
    const service =
      this.#present.get(name) ?? (first === undefined ? undefined : await this.#create(name, first));
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
  }

  /**
   * Makes a call of one kind. After a refusal, only calls of that kind pause, longer each time: a service that cannot
   * be deleted yet does not delay the name of a container.
   *
   * @throws NotYet: that kind pauses; the call's errors
   */
  async #paced<Answer>(kind: CallKind, call: () => Promise<Answer>): Promise<Answer> {
    const { clock } = this.#options;
    const refused = this.#refused.get(kind);
    if (refused !== undefined && refused.untilMs > clock.nowMs()) {
      throw new NotYet(kind);
    }
    try {
      const answer = await call();
      this.#refused.delete(kind);
      return answer;
    } catch (error) {
      const failures = (refused?.failures ?? 0) + 1;
      this.#refused.set(kind, { failures, untilMs: clock.nowMs() + pauseAfter(failures, pauses) });
      throw error;
    }
  }

  /** Lists, once, the services and instances of an earlier process of this instance. */
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

  /** Adopts names that an earlier process left for running containers, and removes the others. */
  #clearLeft(): void {
    const running = this.#running;
    if (running === undefined) {
      return;
    }
    this.#running = undefined;
    for (const [name, { instances }] of this.#present) {
      const wanted = this.#want(name);
      for (const [containerId, address] of instances) {
        if (running.has(containerId) && !wanted.has(containerId) && this.#mayKeep(containerId, name)) {
          this.#give(name, containerId, address);
        }
      }
      if (wanted.size === 0 || [...instances.keys()].some((containerId) => !wanted.has(containerId))) {
        this.#changed.put({ name, attempts: 0, dueMs: 0 });
      }
    }
    this.#lost = undefined;
  }

  /** Whether a container's name was left by an earlier process, and not withdrawn since. */
  #mayKeep(containerId: string, name: string): boolean {
    const lost = this.#lost;
    const ending = name.slice(name.lastIndexOf("."));
    return (
      lost !== undefined && ![containerId, `${containerId}${ending}`, ending].some((each) => lost.has(each))
    );
  }

  /** @param address of its first instance: a service has one address family */
  async #create(name: string, address: string): Promise<Service> {
    const id = await this.#paced("create", () => this.#idOfNew(name, isIPv6(address) ? "AAAA" : "A"));
    const service = { id, instances: new Map<string, string>() };
    this.#present.set(name, service);
    return service;
  }

  async #idOfNew(name: string, Type: "A" | "AAAA"): Promise<string> {
    const { serviceDiscovery, namespaceId, instance } = this.#options;
    try {
      const { Service: made } = await serviceDiscovery.send(
        new CreateServiceCommand({
          Name: name,
          NamespaceId: namespaceId,
          Description: descriptionOf(instance),
          DnsConfig: {
            RoutingPolicy: "MULTIVALUE",
            DnsRecords: [{ Type, TTL: timeToLiveSeconds }],
          },
          Tags: [{ Key: instanceTag, Value: instance }],
        }),
        { abortSignal: this.#closing.signal },
      );
      return made?.Id ?? "";
    } catch (error) {
      if (!isAwsError(error, "ServiceAlreadyExists")) {
        throw error;
      }
      return (error.cause as { readonly ServiceId?: string }).ServiceId ?? "";
    }
  }

  async #register(service: Service, containerId: string, address: string): Promise<void> {
    const { serviceDiscovery } = this.#options;
    const command = new RegisterInstanceCommand({
      ServiceId: service.id,
      InstanceId: containerId,
      Attributes: { [isIPv6(address) ? ipv6Attribute : ipv4Attribute]: address },
    });
    await this.#paced("register", () =>
      serviceDiscovery.send(command, { abortSignal: this.#closing.signal }),
    );
    service.instances.set(containerId, address);
  }

  async #deregister(service: Service, containerId: string): Promise<void> {
    const { serviceDiscovery } = this.#options;
    const command = new DeregisterInstanceCommand({ ServiceId: service.id, InstanceId: containerId });
    await this.#paced("deregister", () =>
      serviceDiscovery.send(command, { abortSignal: this.#closing.signal }).catch(unlessGone),
    );
    service.instances.delete(containerId);
  }

  /** Deletes a service. Cloud Map refuses that for a while after the last instance was removed, so it is retried. */
  async #delete(name: string, service: Service): Promise<void> {
    const { serviceDiscovery } = this.#options;
    const command = new DeleteServiceCommand({ Id: service.id });
    await this.#paced("delete", () =>
      serviceDiscovery.send(command, { abortSignal: this.#closing.signal }).catch(unlessGone),
    );
    this.#present.delete(name);
    this.#forget(name);
  }

  /** Drops a name that no container has any more. */
  #forget(name: string): void {
    if (this.#wanted.get(name)?.size === 0) {
      this.#wanted.delete(name);
    }
  }
}

/** Handles the failure of a removal; no error if the service or instance is already gone. */
const unlessGone = ignoring((error) => isAwsError(error, "InstanceNotFound", "ServiceNotFound"));

function serviceName(name: string, networkId: string): string {
  return `${name.toLowerCase()}.${shortId(networkId)}`;
}
