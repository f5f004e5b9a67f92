/**
 * Links on a user-defined network (`EndpointsConfig.*.Links`, from `--link` of the CLI and `links` of compose): names
 * of peers that only one container resolves. Pure.
 */
import { parseLink } from "../../containers/decisions/links/parse-link.ts";

/** A peer as sent to a container. */
export interface NamedPeer {
  readonly names: readonly string[];
  readonly addresses: readonly string[];
  /** Whether it is the receiving container itself. */
  readonly itself?: boolean;
}

/**
 * Peers of a container with links on a network. An alias is an additional name of each peer that has the linked name;
 * it never resolves to any other peer, even while no linked one runs.
 *
 * @throws invalid: a malformed link
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

/** A host name in lower case, as such names are case-insensitive. */
function folded(name: string): string {
  return name.toLowerCase();
}
