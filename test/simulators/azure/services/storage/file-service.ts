/** The file service of a storage account, of which its properties are simulated, to whoever signs with a key of the account's. */
import { createHmac, timingSafeEqual } from "node:crypto";

import type { WireAnswer, WireRequest } from "../../../common/wire/http-endpoint.ts";

/** Requests are refused that were signed at another time than now. */
const skewMs = 15 * 60_000;

/** Answers a request for the properties, which Azure reads by Shared Key alone. */
export function serveProperties(
  { name, keys }: { readonly name: string; readonly keys: readonly string[] },
  request: WireRequest,
): WireAnswer {
  const { searchParams } = request.url;
  if (
    request.method !== "GET" ||
    searchParams.get("restype") !== "service" ||
    searchParams.get("comp") !== "properties"
  ) {
    return refusal(501, "NotSimulated", "Only the properties of the service are simulated.");
  }
  const at = Date.parse(headerOf(request, "x-ms-date"));
  if (headerOf(request, "x-ms-version") === "") {
    return refusal(400, "MissingRequiredHeader", "x-ms-version");
  }
  if (!(Math.abs(Date.now() - at) < skewMs)) {
    return refusal(403, "AuthenticationFailed", "Request date header too old");
  }
  return keys.some((key) => isSigned(request, name, key))
    ? { status: 200, headers: { "content-type": "application/xml" }, body: "<StorageServiceProperties />" }
    : refusal(403, "AuthenticationFailed", "The MAC signature found in the HTTP request is not the same");
}

/** Whether a request is signed by this key, as "Authorize with Shared Key" says. */
function isSigned(request: WireRequest, account: string, key: string): boolean {
  const { method, url, headers } = request;
  const standard = [
    ...["content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"],
    ...["if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"],
  ].map((name) => headerOf(request, name));
  const own = Object.keys(headers)
    .filter((name) => name.startsWith("x-ms-"))
    .toSorted(byCode)
    .map((name) => `${name}:${headerOf(request, name).trim()}`);
  const query = [...new Set(url.searchParams.keys())]
    .toSorted(byCode)
    .map((name) => `${name.toLowerCase()}:${url.searchParams.getAll(name).toSorted(byCode).join()}`);
  const text = [method, ...standard, ...own, `/${account}${url.pathname}`, ...query].join("\n");
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
  const [wanted, given] = [
    Buffer.from(`SharedKey ${account}:${signature}`),
    Buffer.from(headerOf(request, "authorization")),
  ];
  return wanted.length === given.length && timingSafeEqual(wanted, given);
}

function byCode(one: string, other: string): number {
  return one < other ? -1 : 1;
}

function headerOf({ headers }: WireRequest, name: string): string {
  return [headers[name] ?? ""].flat().join();
}

function refusal(status: number, code: string, message: string): WireAnswer {
  const body = `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { status, headers: { "content-type": "application/xml", "x-ms-error-code": code }, body };
}
