/** Syntax and number of links (`--link`, `EndpointsConfig.*.Links`). Pure. */
import { invalid } from "../../../../../common/errors.ts";

/** The most links of a container, and of one of its endpoints: each is joined with all that it names. */
const mostLinks = 256;

/** @throws invalid */
export function refuseTooManyLinks(links: readonly string[]): void {
  if (links.length > mostLinks) {
    throw invalid(`too many links: ${links.length}, at most ${mostLinks}`);
  }
}

/** A parsed link. */
export interface ParsedLink {
  /** Name or ID of the other container. */
  readonly name: string;
  readonly alias: string;
}

/** Parses `name`, `name:alias` or, as in inspect, `/name:/parent/alias`. @throws invalid, Docker's texts */
export function parseLink(text: string): ParsedLink {
  if (text === "") {
    throw invalid("empty string specified for links");
  }
  const [name = "", alias = name, ...rest] = text.split(":");
  if (rest.length > 0) {
    throw invalid(`bad format for links: ${text}`);
  }
  return name.startsWith("/") && alias !== name
    ? { name: name.slice(1), alias: alias.slice(alias.lastIndexOf("/") + 1) }
    : { name, alias };
}
