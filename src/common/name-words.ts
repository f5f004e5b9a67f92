/** The words of generated container names: only lower-case ASCII letters, so that every name is valid. */

export const adjectives: readonly string[] =
  `able agile airy alert amber ample apt artful astute avid balmy blithe bold bonny brave breezy bright brisk
  bubbly calm candid careful cheery chipper civil clear clever cordial cosy crafty crisp curious dapper daring
  deft devoted diligent dreamy driven dutiful eager earnest easy elated elegant epic exact fair faithful fancy
  fearless festive fine fleet fluent fond frank free fresh friendly frosty gallant generous gentle gifted glad
  gleeful golden grand grateful hale handy hardy hearty helpful honest hopeful humble ideal jaunty jolly joyful
  keen kind lively logical loyal lucid lucky lunar mellow merry mighty mindful modest neat nimble noble novel
  orderly patient peaceful placid playful plucky poised polished polite precise prime prompt proud prudent quick
  quiet quirky radiant ready regal robust rosy savvy serene sharp shiny silent skilful sleek smooth snappy solid
  sparkling spirited spry stable starry steady stellar stoic sturdy sunny swift tactful tender tidy tireless
  trusty upbeat vivid warm wise witty zealous zesty`.split(/\s+/);

/** People who advanced computing, mathematics and the sciences. */
export const surnames: readonly string[] =
  `abel allen ampere archimedes babbage banach bartik bayes berners bernoulli blackburn bohr boltzmann boole borg
  cantor carson cauchy cerf chandra church codd conway cray curie dahl darwin davies dennis dijkstra dirac
  einstein elion engelbart erdos euclid euler faraday fermat fermi feynman floyd fourier franklin galileo galois
  gauss germain goldberg goldwasser gosling haber hamilton hamming hawking hertz hilbert hoare hodgkin hopper
  huffman hypatia iverson jacobi jennings johnson kalman karp kay kepler kernighan khayyam kilby kleene knuth
  kovalevskaya lagrange lamarr lampson laplace leavitt leibniz lehmann liskov lovelace mandelbrot markov maxwell
  mccarthy mcclintock meitner mendel mendeleev metcalfe milner minsky mirzakhani moore napier nash naur newell
  newton nightingale noether nygaard ohm pascal pasteur payne perlis perlman planck poincare postel ptolemy
  ramanujan raman riemann ritchie rivest rutherford sammet scott shamir shannon sinoussi snyder stallman
  steele strachey sutherland tarjan tesla thompson tu turing vaughan viterbi volta wegner wilkes wing wirth wozniak
  wu yalow yao yonath zuse`.split(/\s+/);
