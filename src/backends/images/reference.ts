/**
 * Image references: the grammar of the `distribution/reference` module (docs:
 * pkg.go.dev/github.com/distribution/reference) with Docker's normalization, so that `nginx`, `nginx:latest` and
 * `docker.io/library/nginx:latest` are the same name. The only parser of references; error texts are moby's, as clients
 * match on them.
 */
import { invalid } from "../../common/errors.ts";
import { isFullId } from "../../common/ids.ts";
import { parseDigest } from "./digest.ts";

/** A normalized name: `domain/path`; has a tag or digest, or both, after {@link withDefaultTag}. */
export interface NamedReference {
  /** Registry, with its port if it has one: `docker.io`, `localhost:5000`. */
  readonly domain: string;
  /** Repository at that registry: `library/nginx`. */
  readonly path: string;
  readonly tag: string | undefined;
  /** `sha256:…`; takes precedence over a tag. */
  readonly digest: string | undefined;
}

/** A user's reference to an image: a name, or a complete image ID. */
export type AnyReference =
  | { readonly kind: "named"; readonly named: NamedReference }
  | { readonly kind: "id"; readonly id: string };

const defaultDomain = "docker.io";
const legacyDefaultDomain = "index.docker.io";
const officialPrefix = "library/";
const defaultTag = "latest";
const maxPathLength = 255;

const domainComponent = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const domainPattern = `(?:${domainComponent}(?:\\.${domainComponent})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?`;
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const pathPattern = `${pathComponent}(?:/${pathComponent})*`;
const tagPattern = "[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}";
const digestPattern = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";

const referenceExpression = new RegExp(
  `^(?<name>(?:${domainPattern}/)?${pathPattern})(?::(?<tag>${tagPattern}))?(?:@(?<digest>${digestPattern}))?$`,
);
const domainExpression = new RegExp(`^(?<domain>${domainPattern})/(?<path>${pathPattern})$`);

/** Limits matching; no valid reference is longer: a name of 255, a tag of 128 and the longest digest stay far below. */
const maxReferenceLength = 4096;

/**
 * Parses a user's repository name with an optional tag and digest. Adds no default tag.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseNamed(text: string): NamedReference {
  if (isFullId(text)) {
    throw invalid(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  if (text.length > maxReferenceLength) {
    throw invalid("invalid reference format");
  }
  const [domain, remainder] = splitDomain(text);
  const colon = remainder.indexOf(":");
  const repository = colon < 0 ? remainder : remainder.slice(0, colon);
  if (repository.toLowerCase() !== repository) {
    throw invalid(`invalid reference format: repository name (${repository}) must be lowercase`);
  }
  return parseCanonical(`${domain}/${remainder}`);
}

/**
 * Parses a user's reference to an image: a name, 64 hexadecimal digits or a complete digest. A prefix of an ID is
 * parsed as a name; only the image index can distinguish them.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseAny(text: string): AnyReference {
  if (isFullId(text)) {
    return { kind: "id", id: `sha256:${text}` };
  }
  if (isDigest(text)) {
    return { kind: "id", id: text };
  }
  return { kind: "named", named: parseNamed(text) };
}

/**
 * Parses the new name of an image (`docker tag`, `docker import`): must not have a digest; `latest` is the default tag.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseTarget(text: string): NamedReference {
  const named = parseNamed(text);
  if (named.digest !== undefined) {
    throw invalid("cannot import digest reference");
  }
  if (familiarName(named) === "sha256") {
    throw invalid("refusing to create an ambiguous tag using digest algorithm as name");
  }
  return withDefaultTag(named);
}

/** The reference with tag `latest` if it has neither tag nor digest. */
export function withDefaultTag(named: NamedReference): NamedReference {
  return named.tag === undefined && named.digest === undefined ? { ...named, tag: defaultTag } : named;
}

/** The repository with only a digest. */
export function withDigest(named: NamedReference, digest: string): NamedReference {
  return { ...named, tag: undefined, digest };
}

/** The full repository name: `docker.io/library/nginx`. */
export function repositoryName(named: NamedReference): string {
  return `${named.domain}/${named.path}`;
}

/** The full reference: `docker.io/library/nginx:latest`. Image records hold names in this form. */
export function canonicalString(named: NamedReference): string {
  return repositoryName(named) + suffixOf(named);
}

/** The repository in short form: `nginx`, `localhost:5000/x`. */
export function familiarName(named: NamedReference): string {
  return shortened(repositoryName(named));
}

/** The short forms of a name or digest reference in an image's record, with and without its tag or digest; not parsed. */
export function familiarForms(canonical: string): { readonly text: string; readonly name: string } {
  const text = shortened(canonical);
  const last = text.lastIndexOf("/") + 1;
  const ends = [text.indexOf(":", last), text.indexOf("@", last)].filter((at) => at >= 0);
  return { text, name: text.slice(0, Math.min(...ends)) };
}

/** A full name, with or without tag and digest, in short form. */
function shortened(full: string): string {
  if (!full.startsWith(`${defaultDomain}/`)) {
    return full;
  }
  const path = full.slice(defaultDomain.length + 1);
  const rest = path.slice(officialPrefix.length);
  return path.startsWith(officialPrefix) && !rest.includes("/") ? rest : path;
}

/** The reference in short form: `nginx:latest`. */
export function familiarString(named: NamedReference): string {
  return familiarName(named) + suffixOf(named);
}

function suffixOf(named: NamedReference): string {
  const tag = named.tag === undefined ? "" : `:${named.tag}`;
  return named.digest === undefined ? tag : `${tag}@${named.digest}`;
}

/**
 * The first component is a registry if it cannot be a user's name: it has a dot, a port or upper case, or is localhost.
 */
function splitDomain(text: string): readonly [domain: string, remainder: string] {
  const slash = text.indexOf("/");
  if (slash < 0) {
    return [defaultDomain, officialPrefix + text];
  }
  const first = text.slice(0, slash);
  let domain = defaultDomain;
  let remainder = text;
  if (first === legacyDefaultDomain) {
    remainder = text.slice(slash + 1);
  } else if (first === "localhost" || /[.:]/.test(first) || first.toLowerCase() !== first) {
    domain = first;
    remainder = text.slice(slash + 1);
  }
  return [
    domain,
    domain === defaultDomain && !remainder.includes("/") ? officialPrefix + remainder : remainder,
  ];
}

function parseCanonical(text: string): NamedReference {
  const groups = referenceExpression.exec(text)?.groups;
  if (groups === undefined) {
    throw invalid(
      referenceExpression.test(text.toLowerCase())
        ? "invalid reference format: repository name must be lowercase"
        : "invalid reference format",
    );
  }
  const name = domainExpression.exec(groups["name"] ?? "")?.groups;
  const domain = name?.["domain"] ?? "";
  const path = name?.["path"] ?? "";
  if (path.length > maxPathLength) {
    throw invalid(`repository name must not be more than ${maxPathLength} characters`);
  }
  const digest = groups["digest"];
  return { domain, path, tag: groups["tag"], digest: digest === undefined ? undefined : parseDigest(digest) };
}

function isDigest(text: string): boolean {
  try {
    parseDigest(text);
    return true;
  } catch {
    return false;
  }
}
