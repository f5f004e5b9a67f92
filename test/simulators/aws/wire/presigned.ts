/** Calls that are signed in their query (SigV4), whose signature is verified: others than their signer send them. */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";

import type { WireRequest } from "../../common/wire/http-endpoint.ts";
import { AwsFault } from "./service.ts";

const algorithm = "AWS4-HMAC-SHA256";
const form = "application/x-www-form-urlencoded";

/** The scope of a call's credentials as in an `Authorization` header; undefined: its query has no signature. */
export function presignedScope({ url }: WireRequest): string | undefined {
  const credential = url.searchParams.get("X-Amz-Credential");
  return url.searchParams.get("X-Amz-Algorithm") === algorithm && credential !== null
    ? `${algorithm} Credential=${credential},`
    : undefined;
}

/**
 * The call as it would be with a body.
 *
 * @param secret of the access key; undefined: nobody has it, which is told elsewhere
 * @throws AwsFault `SignatureDoesNotMatch`, in AWS's words
 */
export function unsigned(request: WireRequest, secret: string | undefined, nowMs: number): WireRequest {
  if (secret !== undefined) {
    verify(request, secret, nowMs);
  }
  const call = new URLSearchParams(
    [...request.url.searchParams].filter(([name]) => !name.startsWith("X-Amz-")),
  );
  const headers = { ...request.headers, "content-type": form };
  return { ...request, method: "POST", headers, body: Buffer.from(call.toString()) };
}

function verify(request: WireRequest, secret: string, nowMs: number): void {
  const parameter = (name: string): string => request.url.searchParams.get(name) ?? "";
  const date = parameter("X-Amz-Date");
  const signedAtMs = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\dT\d\d)(\d\d)(\d\dZ)$/, "$1-$2-$3:$4:$5"));
  if (!(nowMs <= signedAtMs + Number(parameter("X-Amz-Expires")) * 1000)) {
    throw new AwsFault("SignatureDoesNotMatch", `Signature expired: ${date}`, 403);
  }
  const expected = signatureOf(request, secret);
  const shown = Buffer.from(parameter("X-Amz-Signature"), "hex");
  if (shown.length !== expected.length || !timingSafeEqual(shown, expected)) {
    const message =
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    throw new AwsFault("SignatureDoesNotMatch", message, 403);
  }
}

/** The signature of a call that is signed in its query. */
export function signatureOf({ method, url, headers, body }: WireRequest, secret: string): Buffer {
  const parameter = (name: string): string => url.searchParams.get(name) ?? "";
  const signedHeaders = parameter("X-Amz-SignedHeaders");
  const query = [...url.searchParams]
    .filter(([name]) => name !== "X-Amz-Signature")
    .map(([name, value]) => `${escaped(name)}=${escaped(value)}`)
    .sort((one, other) => (one < other ? -1 : 1));
  const canonical = [
    method,
    url.pathname,
    query.join("&"),
    ...signedHeaders.split(";").map((name) => `${name}:${String(headers[name] ?? "").trim()}`),
    "",
    signedHeaders,
    sha256(body),
  ].join("\n");
  const scope = parameter("X-Amz-Credential").split("/").slice(1);
  const key = scope.reduce<string | Buffer>((from, part) => hmac(from, part), `AWS4${secret}`);
  const date = parameter("X-Amz-Date");
  return hmac(key, [algorithm, date, scope.join("/"), sha256(canonical)].join("\n"));
}

/** As RFC 3986 has it, which SigV4 asks for. */
function escaped(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}
