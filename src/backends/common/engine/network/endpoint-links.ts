/**
 * Links on a user-defined network (`EndpointsConfig.*.Links`; the docker CLI writes `--link` there, compose its `links`):
 * names of peers that one container alone knows. Pure.
 */
import { parseLink } from "../links/parse-link.ts";

/** A peer as it is told to a container. */
export interface NamedPeer {
  readonly names: readonly string[];
  readonly addresses: readonly string[];
}

/**
 * What a container with links finds on a network. An alias is one more name of each peer that has the linked name, and
 * nobody else's there, also while no such peer runs.
 *
 * @throws invalid: a link that is malformed
 */
export function withLinks(peers: readonly NamedPeer[], links: readonly string[]): readonly NamedPeer[] {
  if (links.length === 0) {
    return peers;
  }
  const targets = new Map(links.map(parseLink).map(({ name, alias }) => [folded(alias), { name, alias }]));
  return peers
    .map(({ names, addresses }) => {
      const known = new Set(names.map(folded));
      const own = names.filter((name) => !targets.has(folded(name)));
      const aliases = [...targets.values()].filter(({ name }) => known.has(folded(name)));
      return { names: [...own, ...aliases.map(({ alias }) => alias)], addresses };
    })
    .filter(({ names }) => names.length > 0);
}

/** Names of hosts are the same in any case. */
function folded(name: string): string {
  return name.toLowerCase();
}
