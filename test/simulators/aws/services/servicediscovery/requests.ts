/** Permissions, tags and pages, which Cloud Map's requests have in common. */
import type { AccessRequest } from "../../iam/access.ts";
import { pagesOf } from "../pages.ts";
import { resourceTagContext } from "../tags.ts";
import { type Registry, withoutArn } from "./state.ts";

/** Permissions in terms of the registry. */
export class Permissions {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  /** Permission for an action without resource level. */
  anywhere(action: string, context: AccessRequest["context"] = {}): AccessRequest[] {
    return [{ action: `servicediscovery:${action}`, resource: "*", context }];
  }

  onNamespace(action: string, idOrArn: string, more: AccessRequest["context"] = {}): AccessRequest[] {
    const id = withoutArn(idOrArn);
    const resource = this.#registry.namespaceArn(id);
    const tags = resourceTagContext(this.#registry.namespaces.get(id)?.tags ?? {});
    const context = { "servicediscovery:NamespaceArn": resource, ...tags, ...more };
    return [{ action: `servicediscovery:${action}`, resource, context }];
  }

  onService(action: string, idOrArn: string, more: AccessRequest["context"] = {}): AccessRequest[] {
    const id = withoutArn(idOrArn);
    const resource = this.#registry.serviceArn(id);
    const tags = resourceTagContext(this.#registry.services.get(id)?.tags ?? {});
    const context = { "servicediscovery:ServiceArn": resource, ...tags, ...more };
    return [{ action: `servicediscovery:${action}`, resource, context }];
  }

  /** Permission to make a service, which has no ID yet, and no tags but those of the request. */
  onNewService(action: string, namespaceId: string, tags: AccessRequest["context"]): AccessRequest[] {
    const resource = this.#registry.serviceArn("*");
    const context = { "servicediscovery:NamespaceArn": this.#registry.namespaceArn(namespaceId), ...tags };
    return [{ action: `servicediscovery:${action}`, resource, context }];
  }

  /** Permissions for the hosted zone, to which Cloud Map writes with its caller's rights. */
  inDns(serviceId: string): AccessRequest[] {
    const service = this.#registry.services.get(withoutArn(serviceId));
    const namespace = this.#registry.namespaces.get(service?.namespaceId ?? "");
    if (namespace === undefined) {
      return [];
    }
    const resource = `arn:aws:route53:::hostedzone/${namespace.hostedZoneId}`;
    return ["route53:GetHostedZone", "route53:ChangeResourceRecordSets"].map((action) => ({
      action,
      resource,
    }));
  }
}

/** A page; a hundred where the request names no number. */
export const requirePage = pagesOf("InvalidInput", 100);
