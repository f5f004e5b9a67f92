/** Names of images as requests spell them: a repository and a tag in two places, or one text. */
import { forbidden, invalid } from "../../common/errors.ts";

/** The reference of a pull. A tag in the query takes precedence over one in the name, and may be a digest. */
export function pullReference(image: string, tag: string): string {
  const name = image.replace(/:$/, ""); // `docker pull --all-tags` sends "name:".
  if (name === "scratch" || name.startsWith("scratch:")) {
    throw forbidden("'scratch' is a reserved name");
  }
  if (tag === "") {
    return name;
  }
  const [repository = ""] = name.split("@", 1);
  const isDigest = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,}$/i.test(tag);
  return isDigest ? `${withoutTag(repository)}@${tag}` : tagged(repository, tag);
}

/** True if a reference has a tag or a digest; one with neither means all tags: clients add `latest`. */
export function namesOneImage(reference: string): boolean {
  return reference.includes("@") || /:[^/:]+$/.test(reference);
}

/** The name for a new image; empty if none was given. */
export function namedReference(repository: string, tag: string): string {
  if (repository === "") {
    return "";
  }
  if (repository.includes("@")) {
    throw invalid("cannot import digest reference");
  }
  return tag === "" ? repository : tagged(repository, tag);
}

function withoutTag(repository: string): string {
  return repository.replace(/:[^:/]*$/, "");
}

function tagged(repository: string, tag: string): string {
  if (!/^\w[\w.-]{0,127}$/.test(tag)) {
    throw invalid("invalid tag format");
  }
  return `${withoutTag(repository)}:${tag}`;
}
