import { AwsFault } from "../../wire/service.ts";
import { type Page, pageOf } from "../pages.ts";

/** A page as ECS' lists have them: a hundred at most. */
export function checkedPage<Item>(all: readonly Item[], token: string | undefined, size = 100): Page<Item> {
  const page = size < 1 || size > 100 ? undefined : pageOf(all, token, size);
  if (page === undefined) {
    throw new AwsFault("InvalidParameterException", "Invalid token or maxResults.");
  }
  return page;
}
