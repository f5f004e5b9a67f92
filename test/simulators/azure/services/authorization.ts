/** Microsoft.Authorization: what a caller's roles allow at a resource. */
import type { Context } from "../context.ts";
import { type ArmOperation, inGroup, type ResourceProvider } from "../wire/provider.ts";

/** The provider. Anybody may ask for the rights of their own. */
export function authorizationProvider({ entra }: Context): ResourceProvider {
  const below = "/providers/Microsoft.Authorization/permissions";
  const operation = (name: string, path: string): ArmOperation => ({
    name,
    method: "GET",
    path,
    run({ url, principal }) {
      const resource = new URL(url).pathname.replace(
        /\/providers\/Microsoft\.Authorization\/permissions$/i,
        "",
      );
      const value = entra.allowedAt(principal, resource).map((actions) => ({ actions, notActions: [] }));
      return { status: 200, body: { value } };
    },
  });
  return {
    name: "authorization",
    namespace: "Microsoft.Authorization",
    apiVersions: ["2022-04-01"],
    operations: [
      operation("Permissions_ListForResourceGroup", `/resourceGroups/{resourceGroupName}${below}`),
      operation("Permissions_ListForResource", inGroup("{provider}", `/{type}/{name}${below}`)),
    ],
  };
}
