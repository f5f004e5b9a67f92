/**
 * The body of a share, after `FileShare` of Microsoft.Storage (2025-08-01). The SDK's newest version has no mappers, so that
 * this is written by hand.
 */
import type { Schema } from "../../models/schema.ts";

const text: Schema = { kind: "string" };
const whole: Schema = { kind: "number", whole: true };
const ofService = { schema: text, readOnly: true } as const;

/** The shape of `FileShare`. */
export const fileShare: Schema = {
  kind: "object",
  properties: {
    id: ofService,
    name: ofService,
    type: ofService,
    etag: ofService,
    systemData: { schema: { kind: "any" }, readOnly: true },
    properties: {
      schema: {
        kind: "object",
        properties: {
          metadata: { schema: { kind: "map", value: text } },
          shareQuota: { schema: { kind: "number", whole: true, range: [1, 102_400] } },
          provisionedIops: { schema: whole },
          provisionedBandwidthMibps: { schema: whole },
          enabledProtocols: { schema: { kind: "string", values: ["SMB", "NFS"] } },
          rootSquash: { schema: { kind: "string", values: ["NoRootSquash", "RootSquash", "AllSquash"] } },
          accessTier: {
            schema: { kind: "string", values: ["TransactionOptimized", "Hot", "Cool", "Premium"] },
          },
          signedIdentifiers: { schema: { kind: "list", element: { kind: "any" } } },
          fileSharePaidBursting: { schema: { kind: "any" } },
        },
      },
    },
  },
};

/** A share, as a PUT or a PATCH has it. */
export interface ShareBody {
  readonly properties?: {
    readonly metadata?: Readonly<Record<string, string>>;
    readonly shareQuota?: number;
    readonly enabledProtocols?: "SMB" | "NFS";
    readonly rootSquash?: "NoRootSquash" | "RootSquash" | "AllSquash";
    readonly accessTier?: string;
    readonly signedIdentifiers?: readonly object[];
    readonly fileSharePaidBursting?: object;
  };
}
