// @anthropic-ai/sdk, made as the README says; its retries are left on.
const Anthropic = require('@anthropic-ai/sdk')
const { converse, customer, limit, prompt, proxy } = require('./conversation.cjs')

const client = new Anthropic({ baseURL: proxy, apiKey: 'sk-test', defaultHeaders: customer })
const ask = { model: 'claude-haiku-4-5', max_tokens: limit, messages: [{ role: 'user', content: prompt }] }

function told({ content, usage, stop_reason }) {
  return { text: content[0].text, input: usage.input_tokens, output: usage.output_tokens, finish: stop_reason }
}

const answer = async () => told(await client.messages.create(ask))
const stream = async () => told(await client.messages.stream(ask).finalMessage())

// `error` is the whole body: {type: 'error', error: {…}}.
converse({ answer, stream }, ({ status, error }) => ({ status, type: error?.error?.type, spend: error?.error?.spend }))
