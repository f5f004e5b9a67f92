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

/** All names of a container, as in listings: sorted, with leading slash. */
export function namesOf(state: State, record: ContainerRecord): string[] {
  const linked = state.containers
    .linkedTo(record.id)
    .filter((parent) => !isRemoved(parent))
    .flatMap((parent) =>
      parent.links
        .filter(({ containerId }) => containerId === record.id)
        .map(({ alias }) => linkName(parent, alias)),
    );
  return [`/${record.name}`, ...linked].sort();
}
