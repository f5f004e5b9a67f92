/** Removal of a link (`docker rm --link`). */
import { invalid } from "../../../../common/errors.ts";
import { withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { push } from "../../networks/name-pushes.ts";
import { linkNamed } from "../decisions/links/link-names.ts";
import { containerOfId } from "../decisions/lookup.ts";

/**
 * Removes the link with a name, not the container.
 *
 * @param left ends the wait for other changes of the container; what has begun goes on
 * @throws invalid: not the name of a link
 */
export async function removeLink(
  context: EngineContext,
  reference: string,
  left?: AbortSignal,
): Promise<void> {
  const named = linkNamed(context.state, reference);
  if (named === undefined) {
    throw invalid("Conflict, cannot remove the default link name of the container");
  }
  const { id } = named.parent;
  await context.live.of(id).lock.run(async () => {
    const record = containerOfId(context.state, id, reference);
    const links = record.links.filter(({ alias }) => alias !== named.link.alias);
    await context.state.commit((change) => change.containers.put(withFields(record, { links })));
    await push(context, id);
  }, left);
}
