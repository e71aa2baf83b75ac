// openai for Node, made as the README says: `node openai.cjs [responses]`. Its retries are left on.
const OpenAI = require('openai')
const { converse, customer, limit, prompt, proxy } = require('./conversation.cjs')

const client = new OpenAI({ baseURL: `${proxy}/v1`, apiKey: 'sk-test', defaultHeaders: customer })
const ask = { model: 'gpt-4o-mini', max_tokens: limit, messages: [{ role: 'user', content: prompt }] }

async function answer() {
  const { choices, usage } = await client.chat.completions.create(ask)
  return { text: choices[0].message.content, input: usage.prompt_tokens, output: usage.completion_tokens }
}

async function stream() {
  const chunks = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } })
  let [text, usage, finish] = ['', null, null]
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta.content ?? ''
    finish = chunk.choices[0]?.finish_reason ?? finish
    usage = chunk.usage ?? usage
  }
  return { text, input: usage.prompt_tokens, output: usage.completion_tokens, finish }
}

const request = { model: 'gpt-4o-mini', max_output_tokens: limit, input: prompt }

async function answerOfResponses() {
  const { output_text, usage } = await client.responses.create(request)
  return { text: output_text, input: usage.input_tokens, output: usage.output_tokens }
}

async function streamOfResponses() {
  const events = await client.responses.create({ ...request, stream: true })
  let [text, usage, finish] = ['', null, null]
  for await (const event of events) {
    if (event.type === 'response.output_text.delta') text += event.delta
    if (event.response?.usage) usage = event.response.usage
    finish = event.response?.incomplete_details?.reason ?? finish
  }
  return { text, input: usage.input_tokens, output: usage.output_tokens, finish }
}

const chat = { answer, stream }
const responses = { answer: answerOfResponses, stream: streamOfResponses }
converse(process.argv[2] === 'responses' ? responses : chat, ({ status, code, type, error }) => ({ status, code, type, spend: error?.spend }))
