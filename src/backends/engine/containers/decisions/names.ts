/** Names of containers. */
import { conflict, invalid } from "../../../../common/errors.ts";
import { randomName, shortId } from "../../../../common/ids.ts";
import type { State } from "../../../state/state.ts";
import { holderOfName } from "./lookup.ts";

const allowed = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
const pattern = new RegExp(`^${allowed}+$`);

/** How many generated names are tried before the ID stands in. */
const attempts = 6;

/**
 * The name, without the slash, that a new container gets.
 *
 * @param asked as the user wrote it; empty: one is made up
 * @throws invalid: characters; conflict: taken
 */
export function nameFor(state: State, id: string, asked: string): string {
  if (asked === "") {
    return generatedName(state, id);
  }
  const name = asked.replace(/^\//, "");
  if (!pattern.test(name)) {
    throw invalid(`Invalid container name (${asked}), only ${allowed} are allowed`);
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
