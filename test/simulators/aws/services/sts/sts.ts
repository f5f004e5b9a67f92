/** STS: who a caller is. */
import type { GetCallerIdentityCommandInput, GetCallerIdentityCommandOutput } from "@aws-sdk/client-sts";

import type { Context } from "../../context.ts";
import { operation, type ServiceHandler } from "../../wire/service.ts";

/** The simulated STS. */
export function stsService({ accountId }: Context): ServiceHandler {
  return {
    name: "sts",
    codes: {
      invalid: "ValidationError",
      throttled: "Throttling",
      denied: "AccessDenied",
      deniedStatus: 403,
      unknownKey: "InvalidClientTokenId",
      unknownKeyStatus: 403,
    },
    operations: {
      GetCallerIdentity: operation<GetCallerIdentityCommandInput, GetCallerIdentityCommandOutput>({
        // No permission is needed, and none can be withheld.
        access: () => [],
        run: (_input, { principal }) => ({
          Account: accountId,
          Arn: principal.arn,
          UserId: principal.userId,
        }),
      }),
    },
  };
}
