/** A URL's user information, in plain text and percent-encoded in a query: scheme, user, password. */
const userInfo =
  /(:\/\/|%3a%2f%2f)((?:(?!%3a|%2f)[^\s"'`<>\\/?#&:])*?)(?:(:|%3a)((?:(?!%2f)[^\s"'`<>\\/?#&])*))?(@|%40)/gi;

/** URLs, in plain text up to the fragment, and percent-encoded in a query. */
const urls = /:\/\/[^\s"'`<>\\#]*|%3a%2f%2f[^\s"'`<>\\#&]*/gi;

/** A URL's query, without punctuation behind it. Signed URLs, and many others, have a secret there. */
const urlQuery = /(\?|%3f).*[^:,;.)]/i;

/** Query parameters with secrets: build arguments, and instructions that may set an environment. */
const secretParameters = /([?&](?:buildargs|changes)=)[^\s"'`<>\\&]*/gi;

/**
 * Masks secrets in a log line or message: the password of any URL, as Go's HTTP client does (`http://user:***@host`), a
 * user without a password (`https://token@host`), a URL's query, and build arguments in a request's path.
 */
export function maskSecrets(text: string): string {
  return text
    .replace(userInfo, (_, scheme: string, user: string, colon: string | undefined, _password, at: string) =>
      colon === undefined ? `${scheme}***${at}` : `${scheme}${user}${colon}***${at}`,
    )
    .replace(urls, (url) => url.replace(urlQuery, "$1***"))
    .replace(secretParameters, "$1***");
}
