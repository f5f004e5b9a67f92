/**
 * Links on a user-defined network (`EndpointsConfig.*.Links`; the docker CLI writes `--link` there, compose its `links`):
 * names of peers that one container alone knows. Pure.
 */
import { parseLink } from "../../containers/decisions/links/parse-link.ts";

/** A peer as it is told to a container. */
export interface NamedPeer {
  readonly names: readonly string[];
  readonly addresses: readonly string[];
  /** Whether it is the container that is told. */
  readonly itself?: boolean;
}

/**
 * Peers that a container with links finds on a network. An alias is one more name of each peer that has the
 * linked name, and never the name of another peer there, even while no linked one runs.
 *
 * @throws invalid: a link that is malformed
 */
export function withLinks(peers: readonly NamedPeer[], links: readonly string[]): readonly NamedPeer[] {
  if (links.length === 0) {
    return peers;
  }
  const targets = new Map(links.map(parseLink).map(({ name, alias }) => [folded(alias), { name, alias }]));
  return peers
    .map(({ names, ...peer }) => {
      const known = new Set(names.map(folded));
      const own = names.filter((name) => !targets.has(folded(name)));
      const aliases = [...targets.values()].filter(({ name }) => known.has(folded(name)));
      return { names: [...own, ...aliases.map(({ alias }) => alias)], ...peer };
    })
    .filter(({ names }) => names.length > 0);
}

/** A host's name in lower case: the case of such names does not count. */
function folded(name: string): string {
  return name.toLowerCase();
}
