/** Endpoints of Docker that are not implemented: refused by name, never answered as if they had worked. */
import { notImplemented } from "../common/errors.ts";
import { backendName } from "./backend/backend-name.ts";
import type { ReplyContext } from "./request-context.ts";
import type { HttpMethod, ReplyRoute } from "./router.ts";

/**
 * The route of an endpoint that is not implemented.
 *
 * @param feature the feature in the user's words: `docker commit`
 */
export function notBuilt(method: HttpMethod, path: string, feature: string): ReplyRoute {
  return { method, path, answeredBy: "nobody", handler: (context) => refuse(context, feature) };
}

/**
 * Refuses a feature with 501, naming it and the backend.
 *
 * @param instead an alternative, as the end of a sentence: `build elsewhere and …`
 * @throws SockerlessError of kind `not-implemented`, always, unless the backend cannot be reached
 */
export async function refuse(
  context: Pick<ReplyContext, "services" | "signal">,
  feature: string,
  instead?: string,
): Promise<never> {
  const name = await backendName(context);
  const hint = instead === undefined ? "" : `; ${instead}`;
  throw notImplemented(`sockerless: ${feature} is not implemented by backend ${JSON.stringify(name)}${hint}`);
}
