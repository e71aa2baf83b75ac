// Vercel's ai with one of its providers, made as the README says: `node vercel_ai.cjs openai|openai-responses|anthropic`. Its retries are left on.
const { createAnthropic } = require('@ai-sdk/anthropic')
const { createOpenAI } = require('@ai-sdk/openai')
const { generateText, streamText } = require('ai')
const { converse, customer, limit, prompt, proxy } = require('./conversation.cjs')

globalThis.AI_SDK_LOG_WARNINGS = false

const settings = { baseURL: `${proxy}/v1`, apiKey: 'sk-test', headers: customer }
const models = {
  openai: () => createOpenAI(settings).chat('gpt-4o-mini'),
  'openai-responses': () => createOpenAI(settings)('gpt-4o-mini'),
  anthropic: () => createAnthropic(settings)('claude-haiku-4-5'),
}
const ask = { model: models[process.argv[2]](), maxOutputTokens: limit, prompt }

async function answer() {
  const { text, usage } = await generateText(ask)
  return { text, input: usage.inputTokens, output: usage.outputTokens }
}

/** streamText does not throw what happens on the way: it hands it to `onError`. */
async function stream() {
  let failure
  const result = streamText({ ...ask, onError: ({ error }) => { failure = error } })
  let text = ''
  for await (const piece of result.textStream) text += piece
  if (failure) throw failure
  const [usage, finish] = [await result.usage, await result.finishReason]
  return { text, input: usage.inputTokens, output: usage.outputTokens, finish }
}

function facts(error) {
  const last = error.lastError ?? error // a RetryError holds what the last try met
  if (!last.responseBody) return { text: String(last) } // no answer that could say anything
  const body = JSON.parse(last.responseBody)
  const { code, type } = body.error
  return { status: last.statusCode, code, type, spend: body.spend ?? body.error.spend }
}

converse({ answer, stream }, facts)
