/** Lists of clouds, which come in pages. */
import { systemError } from "../../../common/errors.ts";

/** Most pages of a list: a million entries, of 100 each. */
const mostPages = 10_000;

/**
 * The pages of a list, in order.
 *
 * @param ask requests the page of a token; undefined: the first one
 * @param tokenAfter the token of the page behind a page; undefined or empty: there is none
 * @throws system: the list has no end; the error of `ask`
 */
export async function* pagesOf<Page>(
  ask: (token: string | undefined) => Promise<Page>,
  tokenAfter: (page: Page) => string | undefined,
): AsyncGenerator<Page> {
  let token: string | undefined;
  for (let count = 0; count < mostPages; count += 1) {
    const page = await ask(token);
    yield page;
    token = tokenAfter(page);
    if (token === undefined || token === "") {
      return;
    }
  }
  throw systemError(`a list of the cloud has more than ${mostPages} pages`);
}
