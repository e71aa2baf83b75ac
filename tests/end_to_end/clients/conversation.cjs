// How a test talks with a client: each line on standard input is a word, `answer` or `stream`, and makes one call;
// each line on standard output is what the application heard, as JSON. The client lives on in between.
// What an application is told by its environment: PROXY, the sidecar's address; CUSTOMER, who pays; MAX_TOKENS, how
// long an answer may be.
const readline = require('node:readline')

/** The names of an error's classes, its own first: what `instanceof` can tell an application. */
function classes(error) {
  const names = []
  for (let kind = error?.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) names.push(kind.name)
  return names
}

/**
 * Carry on until standard input ends.
 * @param calls for each word a function that makes the call and gives {text, input, output}: what was answered, and tokens; of a stream
 * also `finish`: why it ended, in the library's word.
 * @param facts of an error what it says about the refusal: {status, code, spend}.
 */
async function converse(calls, facts) {
  for await (const word of readline.createInterface({ input: process.stdin })) {
    let heard
    try {
      heard = await calls[word]()
    } catch (error) {
      heard = { classes: classes(error), ...facts(error) }
    }
    process.stdout.write(`${JSON.stringify(heard)}\n`)
  }
}

const customer = { 'Spend-Customer': process.env.CUSTOMER }
const prompt = 'Count the sheep.'

const limit = Number(process.env.MAX_TOKENS)

module.exports = { converse, customer, limit, prompt, proxy: process.env.PROXY }
