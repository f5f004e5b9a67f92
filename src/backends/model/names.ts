/** Names of containers, volumes and networks. */

/** Characters of the longest name: names are in lists, and in what other containers are told. */
export const longestName = 255;
