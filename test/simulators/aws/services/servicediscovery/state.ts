/** Cloud Map's registry: namespaces, services, instances, and the operations that change them behind the answer. */
import type { DnsRecord, RoutingPolicy } from "@aws-sdk/client-servicediscovery";

import { arnOf, type Context } from "../../context.ts";
import { lowercaseId } from "../../ids.ts";
import { AwsFault } from "../../wire/service.ts";

/** A private DNS namespace. */
export interface Namespace {
  readonly id: string;
  readonly name: string;
  readonly hostedZoneId: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** A service of a namespace. */
export interface DiscoveryService {
  readonly id: string;
  readonly name: string;
  readonly namespaceId: string;
  readonly description: string | undefined;
  readonly routingPolicy: RoutingPolicy;
  readonly records: readonly Required<DnsRecord>[];
  readonly customHealthCheck: boolean;
  readonly createdAt: Date;
  readonly creatorRequestId: string | undefined;
  readonly instances: Map<string, Instance>;
  /** Instances with an operation under way. */
  readonly busy: Set<string>;
  tags: Readonly<Record<string, string>>;
}

/** An instance of a service. */
export interface Instance {
  readonly id: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly creatorRequestId: string | undefined;
}

/** Everything in the registry. */
export class Registry {
  readonly namespaces = new Map<string, Namespace>();
  readonly services = new Map<string, DiscoveryService>();
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** A namespace that is there at once, as one that was made long ago. */
  addNamespace(name: string): Namespace {
    const id = lowercaseId("ns");
    const hostedZoneId = lowercaseId("Z").toUpperCase().replace("-", "");
    const namespace: Namespace = { id, name, hostedZoneId, tags: {} };
    this.namespaces.set(namespace.id, namespace);
    return namespace;
  }

  /** @throws AwsFault `NamespaceNotFound` */
  namespace(idOrArn: string): Namespace {
    const found = this.namespaces.get(withoutArn(idOrArn));
    if (found === undefined) {
      throw new AwsFault("NamespaceNotFound", `No namespace with ID ${idOrArn}.`);
    }
    return found;
  }

  /** @throws AwsFault `ServiceNotFound` */
  service(idOrArn: string): DiscoveryService {
    const found = this.services.get(withoutArn(idOrArn));
    if (found === undefined) {
      throw new AwsFault("ServiceNotFound", `No service with ID ${idOrArn}.`);
    }
    return found;
  }

  servicesOf(namespaceId: string): DiscoveryService[] {
    return [...this.services.values()].filter((each) => each.namespaceId === namespaceId);
  }

  /** Begins an operation, whose effect comes when its delay is over, or at once without a delay; answers its ID. */
  begin(effect: () => void): string {
    const { clock, delays } = this.#context;
    if (delays.cloudMapOperation === 0) {
      effect();
    } else {
      clock.after(delays.cloudMapOperation, effect);
    }
    return `${lowercaseId("op").slice("op-".length)}-${clock.nowMs().toString(36)}`;
  }

  namespaceArn(id: string): string {
    return arnOf(this.#context, "servicediscovery", `namespace/${id}`);
  }

  serviceArn(id: string): string {
    return arnOf(this.#context, "servicediscovery", `service/${id}`);
  }
}

/** The ID in an ARN; IDs may be given as ARNs. */
export function withoutArn(idOrArn: string): string {
  return idOrArn.slice(idOrArn.lastIndexOf("/") + 1);
}
