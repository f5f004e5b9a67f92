/** Calls that the library makes name the request that they are made for. */
import type { Interceptor } from "@connectrpc/connect";

import { requestIdHeaders } from "../common/request-id.ts";

/** Adds the header of the current request, where there is one. */
export const namingRequest: Interceptor = (next) => (request) => {
  for (const [name, value] of Object.entries(requestIdHeaders())) {
    request.header.set(name, value);
  }
  return next(request);
};
