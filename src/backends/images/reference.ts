/**
 * Image references: the grammar of the `distribution/reference` module (docs: pkg.go.dev/github.com/distribution/reference)
 * with Docker's normalisation, so that `nginx`, `nginx:latest` and `docker.io/library/nginx:latest` are one name. The
 * only place that parses one; texts of refusals are moby's, clients match on them.
 */
import { invalid } from "../../common/errors.ts";
import { parseDigest } from "./digest.ts";

/** A normalised name: `domain/path`, with at least one of tag and digest once {@link withDefaultTag} was applied. */
export interface NamedReference {
  /** Registry, with its port if it has one: `docker.io`, `localhost:5000`. */
  readonly domain: string;
  /** Repository at that registry: `library/nginx`. */
  readonly path: string;
  readonly tag: string | undefined;
  /** `sha256:…`; where there is a tag too, the digest decides. */
  readonly digest: string | undefined;
}

/** A user's reference to an image: a name, or an image's whole ID. */
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
const bareIdExpression = /^[0-9a-f]{64}$/;

/** No reference is longer: a name of 255, a tag of 128 and the longest digest stay far below. Bounds the matching. */
const maxReferenceLength = 4096;

/**
 * Parses what a user wrote as a repository name with an optional tag and digest. No tag is added.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseNamed(text: string): NamedReference {
  if (bareIdExpression.test(text)) {
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
 * Parses what a user wrote where an image is meant: a name, 64 hexadecimal digits or a whole digest. A prefix of an ID
 * parses as a name; only the image index can tell.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseAny(text: string): AnyReference {
  if (bareIdExpression.test(text)) {
    return { kind: "id", id: `sha256:${text}` };
  }
  if (isDigest(text)) {
    return { kind: "id", id: text };
  }
  return { kind: "named", named: parseNamed(text) };
}

/**
 * Parses the new name of an image (`docker tag`, `docker import`): a digest cannot be given, `latest` is added.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseTarget(text: string): NamedReference {
  const named = parseNamed(text);
  if (named.digest !== undefined) {
    throw invalid("cannot import digest reference");
  }
  return withDefaultTag(named);
}

/** The same reference with `latest` where there is neither tag nor digest. */
export function withDefaultTag(named: NamedReference): NamedReference {
  return named.tag === undefined && named.digest === undefined ? { ...named, tag: defaultTag } : named;
}

/** The same repository addressed by a digest alone. */
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

/** The repository as people write it: `nginx`, `localhost:5000/x`. */
export function familiarName(named: NamedReference): string {
  if (named.domain !== defaultDomain) {
    return repositoryName(named);
  }
  const rest = named.path.slice(officialPrefix.length);
  return named.path.startsWith(officialPrefix) && !rest.includes("/") ? rest : named.path;
}

/** The reference as people write it: `nginx:latest`. */
export function familiarString(named: NamedReference): string {
  return familiarName(named) + suffixOf(named);
}

function suffixOf(named: NamedReference): string {
  const tag = named.tag === undefined ? "" : `:${named.tag}`;
  return named.digest === undefined ? tag : `${tag}@${named.digest}`;
}

/** A first component is a registry where it cannot be a user's name: it has a dot, a port or upper case, or is localhost. */
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
