/** Names of containers. */
import { conflict, invalid } from "../../../../common/errors.ts";
import { randomName, shortId } from "../../../../common/ids.ts";
import { allowedInNames, longestName, namePattern } from "../../../model/names.ts";
import type { State } from "../../../state/state.ts";
import { holderOfName } from "./lookup.ts";

/** Maximum number of generated names before the ID is used instead. */
const attempts = 6;

/**
 * The name of a new container, without the slash.
 *
 * @param asked the user's name; empty to generate one
 * @throws invalid: characters, or too many; conflict: taken
 */
export function nameFor(state: State, id: string, asked: string): string {
  if (asked === "") {
    return generatedName(state, id);
  }
  const name = asked.replace(/^\//, "");
  if (!namePattern.test(name)) {
    throw invalid(`Invalid container name (${asked}), only ${allowedInNames} are allowed`);
  }
  if (name.length > longestName) {
    throw invalid(
      `Invalid container name (${name.slice(0, 32)}…): it has more than ${longestName} characters`,
    );
  }
  const holder = holderOfName(state, name);
  if (holder !== undefined) {
    throw conflict(
      `Conflict. The container name "/${name}" is already in use by container "${holder.id}". ` +
        "You have to remove (or rename) that container to be able to reuse that name.",
    );
  }
  return name;
}

function generatedName(state: State, id: string): string {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const name = randomName(attempt);
    if (holderOfName(state, name) === undefined) {
      return name;
    }
  }
  return shortId(id);
}
