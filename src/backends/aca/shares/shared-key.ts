/** Shared Key authorization of Azure Storage, for testing a key at an account's file service. */
import { createHmac } from "node:crypto";

import type { PipelinePolicy, PipelineRequest } from "@azure/core-rest-pipeline";

import type { AzureClients } from "../arm/clients.ts";
import { AzureError } from "../arm/errors.ts";

/** The file service of a storage account. */
export interface FileService {
  readonly azure: Pick<AzureClients, "call" | "request">;
  /** `https://<account>.file.core.windows.net` */
  readonly endpoint: string;
  readonly account: string;
}

const apiVersion = "2025-05-05";
/** Time limit of an answer: a service that is only reachable from its own network does not answer. */
const answerLimitMs = 5_000;
/** Definite answers: the signature is wrong, or the account accepts no keys, also not for mounts. */
const refusals: ReadonlySet<string> = new Set(["AuthenticationFailed", "KeyBasedAuthenticationNotPermitted"]);

/**
 * Tests a key at an account.
 *
 * @returns the code of its refusal; undefined if it accepts the key, or the result is unknown, for instance because
 *   this machine's clock is wrong
 */
export async function refusalOfKey(
  { azure, endpoint, account }: FileService,
  key: string,
): Promise<string | undefined> {
  const operation = "FileService_GetProperties";
  const base = endpoint.replace(/\/+$/, "");
  const request = {
    method: "GET",
    url: `${base}/?restype=service&comp=properties`,
    signing: sharedKeyPolicy(account, key),
  } as const;
  try {
    return await azure.call(
      operation,
      async (options) => {
        try {
          await azure.request(request, options);
          return undefined;
        } catch (error) {
          const refused = new AzureError(operation, error);
          if (refusals.has(refused.code) && !refused.isUntimely) {
            return refused.code;
          }
          throw refused;
        }
      },
      AbortSignal.timeout(answerLimitMs),
    );
  } catch {
    return undefined; // A refusal of the call is in the log.
  }
}

/** Signs requests without a body. */
function sharedKeyPolicy(account: string, key: string): PipelinePolicy {
  return {
    name: "sockerless-shared-key",
    sendRequest(request, next) {
      request.headers.set("x-ms-date", new Date().toUTCString());
      request.headers.set("x-ms-version", apiVersion);
      const signature = createHmac("sha256", Buffer.from(key, "base64"))
        .update(stringToSign(account, request))
        .digest("base64");
      request.headers.set("authorization", `SharedKey ${account}:${signature}`);
      return next(request);
    },
  };
}

/** https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key */
function stringToSign(account: string, { method, url, headers }: PipelineRequest): string {
  const { pathname, searchParams } = new URL(url);
  const own = [...headers]
    .map(([name, value]) => [name.toLowerCase(), value] as const)
    .filter(([name]) => name.startsWith("x-ms-"))
    .toSorted(byName)
    .map(([name, value]) => `${name}:${value}`);
  const query = [...searchParams].toSorted(byName).map(([name, value]) => `${name}:${value}`);
  const standardHeaders = Array.from({ length: 11 }, () => "");
  return [method, ...standardHeaders, ...own, `/${account}${pathname}`, ...query].join("\n");
}

function byName([one]: readonly [string, string], [other]: readonly [string, string]): number {
  return one < other ? -1 : 1;
}
