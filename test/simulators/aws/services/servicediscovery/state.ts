/** Cloud Map's registry: namespaces, services, instances, and the operations that change them behind the answer. */
import type { DnsRecord, RoutingPolicy } from "@aws-sdk/client-servicediscovery";

import { arnOf, type Context } from "../../context.ts";
import { lowercaseId } from "../../ids.ts";
import { AwsFault } from "../../wire/service.ts";

/** A private DNS namespace; it exists once its operation has succeeded. */
export interface Namespace {
  readonly id: string;
  readonly name: string;
  readonly description: string | undefined;
  readonly hostedZoneId: string;
  readonly createdAt: Date;
  readonly creatorRequestId: string | undefined;
  tags: Readonly<Record<string, string>>;
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

/** The kind and ID of a thing that an operation changes. */
export interface OperationTarget {
  readonly kind: "NAMESPACE" | "SERVICE" | "INSTANCE";
  readonly id: string;
}

/** An asynchronous operation. */
export interface BackgroundOperation {
  readonly id: string;
  readonly type: "CREATE_NAMESPACE" | "DELETE_NAMESPACE" | "REGISTER_INSTANCE" | "DEREGISTER_INSTANCE";
  readonly targets: readonly OperationTarget[];
  readonly createdAt: Date;
  status: "SUBMITTED" | "PENDING" | "SUCCESS" | "FAIL";
  updatedAt: Date;
}

/** Everything in the registry. */
export class Registry {
  readonly namespaces = new Map<string, Namespace>();
  readonly services = new Map<string, DiscoveryService>();
  readonly operations = new Map<string, BackgroundOperation>();
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** A namespace that is there at once, as one that was made long ago. */
  addNamespace(name: string): Namespace {
    const namespace = this.newNamespace(name, undefined, undefined, {});
    this.namespaces.set(namespace.id, namespace);
    return namespace;
  }

  newNamespace(
    name: string,
    description: string | undefined,
    creatorRequestId: string | undefined,
    tags: Readonly<Record<string, string>>,
  ): Namespace {
    return {
      id: lowercaseId("ns"),
      name,
      description,
      hostedZoneId: lowercaseId("Z").toUpperCase().replace("-", ""),
      createdAt: this.#context.clock.now(),
      creatorRequestId,
      tags,
    };
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
  begin(type: BackgroundOperation["type"], targets: readonly OperationTarget[], effect: () => void): string {
    const { clock, delays } = this.#context;
    const now = clock.now();
    const id = `${lowercaseId("op").slice("op-".length)}-${now.getTime().toString(36)}`;
    const operation: BackgroundOperation = {
      id,
      type,
      targets,
      createdAt: now,
      status: "SUBMITTED",
      updatedAt: now,
    };
    this.operations.set(id, operation);
    const finish = (): void => {
      effect();
      operation.status = "SUCCESS";
      operation.updatedAt = clock.now();
    };
    if (delays.cloudMapOperation === 0) {
      finish();
    } else {
      clock.after(delays.cloudMapOperation, finish);
    }
    return id;
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
