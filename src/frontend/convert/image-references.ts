/** Names of images as requests spell them: a repository and a tag in two places, or one text. */
import { forbidden, invalid } from "../../common/errors.ts";

/** The reference of a pull. A tag in the query goes before one in the name, and may be a digest. */
export function pullReference(image: string, tag: string): string {
  const name = image.replace(/:$/, ""); // `docker pull --all-tags` sends "name:".
  if (name === "scratch" || name.startsWith("scratch:")) {
    throw forbidden("'scratch' is a reserved name");
  }
  if (tag === "") {
    return name;
  }
  const bare = name.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
  return /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,}$/i.test(tag) ? `${bare}@${tag}` : `${bare}:${tag}`;
}

/** Whether a reference has a tag or a digest. Without either a pull means all tags: clients add `latest` themselves. */
export function namesOneImage(reference: string): boolean {
  return reference.includes("@") || /:[^/:]+$/.test(reference);
}

/** The name for a new image; empty where none was given. */
export function namedReference(repository: string, tag: string): string {
  if (repository === "") {
    return "";
  }
  if (repository.includes("@")) {
    throw invalid("cannot import digest reference");
  }
  return tag === "" ? repository : `${repository.replace(/:[^:/]*$/, "")}:${tag}`;
}
