/** Names by links: `/parent/alias` is an additional name of the linked container. Pure. */
import type { ContainerRecord, Link } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../../state/state.ts";
import { isRemoved, isVisible } from "../../../../model/records.ts";

/** A link and its container. */
export interface NamedLink {
  readonly parent: ContainerRecord;
  readonly link: Link;
}

/** The name of a link. */
export function linkName(parent: ContainerRecord, alias: string): string {
  return `/${parent.name}/${alias}`;
}

/** The link with a name, with or without leading slash; undefined if there is none. */
export function linkNamed(state: State, reference: string): NamedLink | undefined {
  const [, name = "", alias] = /^\/?([^/]+)\/(.+)$/.exec(reference) ?? [];
  const parent = state.containers.named(name).find(isVisible);
  const link = parent?.links.find((each) => each.alias === alias);
  return parent === undefined || link === undefined ? undefined : { parent, link };
}

/** The names of a listing's containers; those by links are found in one pass over all links. */
export class ContainerNames {
  readonly #byLinks = new Map<string, string[]>();

  constructor(state: State) {
    for (const parent of state.containers.values()) {
      for (const { containerId, alias } of isRemoved(parent) ? [] : parent.links) {
        const names = this.#byLinks.get(containerId) ?? [];
        names.push(linkName(parent, alias));
        this.#byLinks.set(containerId, names);
      }
    }
  }

  /** All names of a container: sorted, with leading slash. */
  of(record: ContainerRecord): string[] {
    return [`/${record.name}`, ...(this.#byLinks.get(record.id) ?? [])].sort();
  }
}
